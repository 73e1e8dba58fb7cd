CREATE PROCEDURE `{{loop}}_get`(
    IN in_max_ids       BIGINT,
    IN in_lock_for      BIGINT,
    IN in_min_loop_time BIGINT
)
    MODIFIES SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'doloop {{version}}: picks at most max_ids ids and locks them for lock_for (3600) s: first those bumped or whose lock ran out, then the never updated, then the longest not updated, of those last updated at least min_loop_time (3600) s ago. Answers rows, in that order: id, lock_until'
BEGIN
    DECLARE v_now BIGINT;
    DECLARE v_lock_until BIGINT;
    DECLARE v_stale_until BIGINT;
    DECLARE v_left BIGINT;
    DECLARE v_picked BIGINT;
    DECLARE v_from_lock_until BIGINT;
    DECLARE v_from_last_updated BIGINT;
    DECLARE v_from_id {{id_type}};
    DECLARE v_due LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_never LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_stale LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_ids LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_error VARCHAR(128) CHARACTER SET utf8mb4;
    DECLARE v_own_transaction BOOLEAN DEFAULT FALSE;
    DECLARE v_attempts_left INT DEFAULT 10;
    -- One claim at a time, if it is of many ids: others would read on and on through the locks of this one. They need it
    -- for their speed only, unless the engine has no row locks, as those without transactions.
    DECLARE v_row_locks BOOLEAN DEFAULT '{{engine}}' = 'InnoDB';
    DECLARE v_mutex CHAR(64) CHARACTER SET ascii DEFAULT IF(v_row_locks AND in_max_ids < 5, NULL,
        SHA2(CONCAT('doloop ', HEX(DATABASE()), ' ', HEX('{{loop}}')), 256));

    SET in_lock_for = COALESCE(in_lock_for, 3600), in_min_loop_time = COALESCE(in_min_loop_time, 3600);
    SET v_error = CASE
        WHEN in_max_ids IS NULL OR in_max_ids < 0 THEN
            CONCAT('max_ids: ', COALESCE(in_max_ids, 'NULL'), ' is not a whole number from 0 up')
        WHEN in_lock_for NOT BETWEEN 1 AND 2147483647 THEN
            CONCAT('lock_for: ', in_lock_for, ' is not a number of seconds from 1 to 2147483647')
        WHEN in_min_loop_time NOT BETWEEN 0 AND 2147483647 THEN
            CONCAT('min_loop_time: ', in_min_loop_time, ' is not a number of seconds from 0 to 2147483647')
        WHEN v_mutex IS NOT NULL AND NOT COALESCE(GET_LOCK(v_mutex, IF(v_row_locks, 1, 60)), FALSE) AND NOT v_row_locks THEN
            'get: other calls of it have held the named lock of the loop for 60 s'
        END;
    IF v_error IS NOT NULL THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
    END IF;
    -- Not before the named lock was waited for: a lock on ids is to last its time.
    SET v_now = UNIX_TIMESTAMP();
    SET v_lock_until = v_now + in_lock_for, v_stale_until = v_now - in_min_loop_time;

    claim: LOOP
        BEGIN
            DECLARE EXIT HANDLER FOR SQLEXCEPTION
            BEGIN
                IF v_own_transaction THEN
                    ROLLBACK AND NO CHAIN NO RELEASE;
                END IF;
                DO IF(v_mutex IS NULL, NULL, RELEASE_LOCK(v_mutex));
                RESIGNAL;
            END;
            -- A deadlock has rolled everything back. What was the caller's is the caller's to repeat.
            DECLARE EXIT HANDLER FOR 1213
            BEGIN
                SET v_attempts_left = v_attempts_left - 1;
                IF v_attempts_left = 0 OR NOT v_own_transaction THEN
                    DO IF(v_mutex IS NULL, NULL, RELEASE_LOCK(v_mutex));
                    RESIGNAL;
                END IF;
            END;

            -- With autocommit the claim is a transaction of its own, unless the caller has one open: that one it
            -- joins, known by SET TRANSACTION being refused. READ UNCOMMITTED locks the ids picked and no gaps; and
            -- what it reads without locking is as of now, with the claims of others that are about to commit.
            IF @@autocommit THEN
                BEGIN
                    DECLARE EXIT HANDLER FOR 1568 BEGIN END;
                    SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;
                    START TRANSACTION;
                    SET v_own_transaction = TRUE;
                END;
            END IF;

            -- Three ranges, each by itself and in the order of the index: only the ids picked are locked. Where a range
            -- begins is looked up first, without locks: what others took from its head and the server did not purge yet
            -- (a backup keeps it from that) is passed over in no time, but locking one by one. In a transaction that was
            -- joined, what is read without locks may be old, so there a range begins at its head.
            SET v_left = in_max_ids, v_never = NULL, v_stale = NULL;

            -- 1. Bumped, or the lock ran out. Read from its end to see if there is anything, since MariaDB reads on past
            -- an empty range's end to the next entry that is not purged.
            SET v_from_lock_until = NULL, v_from_last_updated = NULL, v_from_id = NULL;
            IF v_own_transaction THEN
                SELECT `lock_until` INTO v_from_lock_until
                    FROM `{{loop}}` FORCE INDEX (`lock_until`)
                    WHERE `lock_until` <= v_now
                    ORDER BY `lock_until` DESC
                    LIMIT 1;
                IF v_from_lock_until IS NOT NULL THEN
                    SELECT `lock_until`, `last_updated`, `id` INTO v_from_lock_until, v_from_last_updated, v_from_id
                        FROM `{{loop}}` FORCE INDEX (`lock_until`)
                        WHERE `lock_until` <= v_now
                        ORDER BY `lock_until`, `last_updated`, `id`
                        LIMIT 1;
                END IF;
            END IF;
            IF v_from_id IS NOT NULL OR NOT v_own_transaction THEN
                /*M! SET STATEMENT group_concat_max_len = 1073741824 FOR */
                SELECT COUNT(*), JSON_ARRAYAGG(`{{id_as_json}}`) INTO v_picked, v_due
                    FROM (
                        SELECT `id`
                            FROM `{{loop}}` FORCE INDEX (`lock_until`)
                            WHERE `lock_until` <= v_now AND (
                                v_from_id IS NULL
                                OR `lock_until` > v_from_lock_until
                                OR `lock_until` = v_from_lock_until
                                    AND `last_updated` > COALESCE(v_from_last_updated, -9223372036854775808)
                                OR `lock_until` = v_from_lock_until
                                    AND `last_updated` <=> v_from_last_updated AND `id` >= v_from_id)
                            ORDER BY `lock_until`, `last_updated`, `id`
                            LIMIT v_left
                            FOR UPDATE SKIP LOCKED
                    ) AS due;
                SET v_left = v_left - v_picked;
            END IF;

            -- 2. Never updated.
            SET v_from_id = NULL;
            IF v_left > 0 AND v_own_transaction THEN
                SELECT `id` INTO v_from_id
                    FROM `{{loop}}` FORCE INDEX (`lock_until`)
                    WHERE `lock_until` IS NULL AND `last_updated` IS NULL
                    ORDER BY `id`
                    LIMIT 1;
            END IF;
            IF v_left > 0 AND (v_from_id IS NOT NULL OR NOT v_own_transaction) THEN
                /*M! SET STATEMENT group_concat_max_len = 1073741824 FOR */
                SELECT COUNT(*), JSON_ARRAYAGG(`{{id_as_json}}`) INTO v_picked, v_never
                    FROM (
                        SELECT `id`
                            FROM `{{loop}}` FORCE INDEX (`lock_until`)
                            WHERE `lock_until` IS NULL AND `last_updated` IS NULL
                                AND (v_from_id IS NULL OR `id` >= v_from_id)
                            ORDER BY `id`
                            LIMIT v_left
                            FOR UPDATE SKIP LOCKED
                    ) AS never;
                SET v_left = v_left - v_picked;
            END IF;

            -- 3. The longest not updated.
            SET v_from_id = NULL;
            IF v_left > 0 AND v_own_transaction THEN
                SELECT `last_updated`, `id` INTO v_from_last_updated, v_from_id
                    FROM `{{loop}}` FORCE INDEX (`lock_until`)
                    WHERE `lock_until` IS NULL AND `last_updated` <= v_stale_until
                    ORDER BY `last_updated`, `id`
                    LIMIT 1;
            END IF;
            IF v_left > 0 AND (v_from_id IS NOT NULL OR NOT v_own_transaction) THEN
                /*M! SET STATEMENT group_concat_max_len = 1073741824 FOR */
                SELECT COUNT(*), JSON_ARRAYAGG(`{{id_as_json}}`) INTO v_picked, v_stale
                    FROM (
                        SELECT `id`
                            FROM `{{loop}}` FORCE INDEX (`lock_until`)
                            WHERE `lock_until` IS NULL AND `last_updated` <= v_stale_until AND (
                                v_from_id IS NULL
                                OR `last_updated` > v_from_last_updated
                                OR `last_updated` = v_from_last_updated AND `id` >= v_from_id)
                            ORDER BY `last_updated`, `id`
                            LIMIT v_left
                            FOR UPDATE SKIP LOCKED
                    ) AS stale;
                SET v_left = v_left - v_picked;
            END IF;

            -- A server cuts an aggregate that outgrows its packet.
            IF in_max_ids - v_left <> COALESCE(JSON_LENGTH(v_due), 0)
                + COALESCE(JSON_LENGTH(v_never), 0) + COALESCE(JSON_LENGTH(v_stale), 0)
            THEN
                SET v_error = CONCAT('max_ids: ', in_max_ids, ' ids are more than max_allowed_packet holds');
                SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
            END IF;
            SET v_ids = CONCAT('[', CONCAT_WS(',', v_due, v_never, v_stale), ']');

            -- All of them are there, and locked. It is no UPDATE, since on MariaDB an error while a row is being updated
            -- goes past every handler, and the transaction would stay open.
            IF v_row_locks THEN
                INSERT INTO `{{loop}}` (`id`)
                    SELECT `{{id}}`
                        FROM JSON_TABLE(v_ids, '$[*][*]' COLUMNS (v TEXT CHARACTER SET utf8mb4 PATH '$')) AS json_ids
                    ON DUPLICATE KEY UPDATE `lock_until` = v_lock_until;
            ELSE
                -- Without row locks an id may be removed meanwhile, and must not come back.
                /*M! SET STATEMENT sql_safe_updates = 0 FOR */
                UPDATE JSON_TABLE(v_ids, '$[*][*]' COLUMNS (v TEXT CHARACTER SET utf8mb4 PATH '$')) AS json_ids
                    STRAIGHT_JOIN `{{loop}}` AS t FORCE INDEX (PRIMARY) ON t.`id` = `{{id}}`
                    SET t.`lock_until` = v_lock_until;
            END IF;
            -- Who comes next sees these ids as locked already: the commit may take its time.
            DO IF(v_mutex IS NULL, NULL, RELEASE_LOCK(v_mutex));
            IF v_own_transaction THEN
                COMMIT AND NO CHAIN NO RELEASE;
            END IF;
            LEAVE claim;
        END;
    END LOOP;

    -- Only now, after the commit, may anyone use the ids.
    SELECT `{{id}}` AS `id`, v_lock_until AS `lock_until`
        FROM JSON_TABLE(v_ids, '$[*][*]' COLUMNS (
            position FOR ORDINALITY,
            v TEXT CHARACTER SET utf8mb4 PATH '$')) AS json_ids
        ORDER BY position;
END
