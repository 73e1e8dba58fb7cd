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
    DECLARE v_due_until BIGINT;
    DECLARE v_left BIGINT DEFAULT in_max_ids;
    DECLARE v_wanted BIGINT;
    DECLARE v_found BIGINT;
    DECLARE v_claimed BIGINT;
    DECLARE v_from_lock_until BIGINT;
    DECLARE v_from_last_updated BIGINT;
    DECLARE v_from_id {{id_type}};
    DECLARE v_due LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_never LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_stale LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_candidates LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_ids LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_claims LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_error VARCHAR(128) CHARACTER SET utf8mb4;
    DECLARE v_joins BOOLEAN DEFAULT NOT @@autocommit;
    DECLARE v_owns BOOLEAN DEFAULT FALSE;
    DECLARE v_attempt INT DEFAULT 0;
    DECLARE v_mutex VARCHAR(64) CHARACTER SET ascii;
    DECLARE v_seconds INT;
    DECLARE v_has_mutex BOOLEAN;
    DECLARE v_waits INT;
    DECLARE v_last_insert_id BIGINT UNSIGNED DEFAULT LAST_INSERT_ID();

    SET in_lock_for = COALESCE(in_lock_for, 3600), in_min_loop_time = COALESCE(in_min_loop_time, 3600);
    SET v_error = CASE
        WHEN in_max_ids IS NULL OR in_max_ids < 0 THEN
            CONCAT('max_ids: ', COALESCE(in_max_ids, 'NULL'), ' is not a whole number from 0 up')
        WHEN in_lock_for NOT BETWEEN 1 AND 2147483647 THEN
            CONCAT('lock_for: ', in_lock_for, ' is not a number of seconds from 1 to 2147483647')
        WHEN in_min_loop_time NOT BETWEEN 0 AND 2147483647 THEN
            CONCAT('min_loop_time: ', in_min_loop_time, ' is not a number of seconds from 0 to 2147483647')
        END;
    IF v_error IS NOT NULL THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
    END IF;
    -- {{refuse_read_only}}

    -- Candidates are looked up, and claimed by one statement, which is a transaction by itself, unless the caller has one
    -- open. So whatever ends this call, be it KILL, leaves no transaction open. Who loses candidates to others tries again.
    attempts: WHILE v_left > 0 AND v_attempt < 100 DO
        BEGIN
            DECLARE EXIT HANDLER FOR SQLEXCEPTION
            BEGIN
                DO LAST_INSERT_ID(v_last_insert_id), IF(v_mutex IS NULL, NULL, RELEASE_LOCK(v_mutex));
                -- Else the isolation level would be that of the caller's next transaction, if nothing was read since it was set.
                IF v_owns THEN
                    ROLLBACK AND NO CHAIN NO RELEASE;
                END IF;
                -- What was claimed before is locked, and has to be answered; unless it is not known what came of this claim, since
                -- a KILL may come between its commit and the next step.
                IF v_claims IS NULL OR v_candidates IS NOT NULL OR v_joins THEN
                    RESIGNAL;
                END IF;
                SET v_left = 0;
            END;
            -- A deadlock has rolled everything back. What was the caller's is the caller's to repeat.
            DECLARE EXIT HANDLER FOR 1213
            BEGIN
                IF v_joins OR v_attempt = 100 AND v_claims IS NULL THEN
                    DO LAST_INSERT_ID(v_last_insert_id), IF(v_mutex IS NULL, NULL, RELEASE_LOCK(v_mutex));
                    RESIGNAL;
                END IF;
            END;

            SET v_attempt = v_attempt + 1, v_wanted = in_max_ids;
            SET v_due = NULL, v_never = NULL, v_stale = NULL, v_candidates = NULL;

            -- Where does each range begin? That is looked up without locks, as READ UNCOMMITTED: entries that others left and
            -- the server did not purge yet (a backup keeps it from that) are passed over in no time, and claims that are about
            -- to commit are seen. In a transaction, SET TRANSACTION is refused; what is read so may be old there, and a range
            -- is read from its head.
            IF NOT v_joins THEN
                BEGIN
                    DECLARE EXIT HANDLER FOR 1568 SET v_joins = TRUE;
                    SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;
                    SET v_owns = TRUE;
                END;
            END IF;

            -- One at a time, lest all want the same ids: those that want many, and those that lost one. It is for speed
            -- alone. A name serves for a second, or one more for each thousand ids. Who has waited for so long waits under the
            -- next name, where a lock that somebody's KILL left behind is in nobody's way; for a minute at most. (All at once
            -- they would only take ids from each other: of 300 connections hardly one got any.) But in a transaction nobody
            -- waits: who has the lock may wait for what that has locked, and no server would see that they wait for each other.
            -- MariaDB forgets a KILL that meets GET_LOCK in a DO.
            IF NOT v_joins AND (in_max_ids >= 5 OR v_attempt > 1) THEN
                IF v_mutex IS NOT NULL THEN
                    DO RELEASE_LOCK(v_mutex);
                END IF;
                SET v_seconds = 1 + LEAST(in_max_ids DIV 1000, 60), v_has_mutex = FALSE, v_waits = 0;
                WHILE NOT v_has_mutex AND v_waits * v_seconds < 60 DO
                    SET v_mutex = CONCAT('doloop ', CRC32(DATABASE()), ' ', CRC32('{{loop}}'), ' ', UNIX_TIMESTAMP() DIV v_seconds);
                    SET v_has_mutex = COALESCE(GET_LOCK(v_mutex, v_seconds), FALSE), v_waits = v_waits + 1;
                END WHILE;
            END IF;
            -- Not before that was waited for: a lock on ids is to last its time.
            IF v_claims IS NULL THEN
                SET v_now = UNIX_TIMESTAMP();
                SET v_lock_until = v_now + in_lock_for, v_stale_until = v_now - in_min_loop_time;
            END IF;

            -- 1. Bumped, or the lock ran out. Read from its end to see if there is anything, since MariaDB reads on past an
            -- empty range's end to the next entry that is not purged.
            -- (Where MySQL takes the table for a tiny one, it reads all of an index rather than a range, if only the index has
            -- all columns that a query names: hence failures.)
            SET v_due_until = v_now, v_from_lock_until = NULL, v_from_last_updated = NULL, v_from_id = NULL;
            IF NOT v_joins THEN
                SELECT MAX(`lock_until`) INTO v_due_until
                    FROM `{{loop}}` FORCE INDEX (`lock_until`)
                    WHERE `lock_until` <= v_now;
                IF v_due_until IS NOT NULL THEN
                    SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;
                    SELECT `lock_until`, `last_updated`, `id` INTO v_from_lock_until, v_from_last_updated, v_from_id
                        FROM `{{loop}}` FORCE INDEX (`lock_until`)
                        WHERE /*!80000 `failures` >= 0 AND */ `lock_until` <= v_due_until
                        ORDER BY `lock_until`, `last_updated`, `id`
                        LIMIT 1;
                    SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;
                END IF;
            END IF;
            IF v_due_until IS NOT NULL THEN
                /*M! SET STATEMENT group_concat_max_len = 1073741824 FOR */
                SELECT v_wanted - COUNT(*), JSON_ARRAYAGG(`{{id_as_json}}`) INTO v_wanted, v_due
                    FROM (
                        SELECT `id`
                            FROM `{{loop}}` FORCE INDEX (`lock_until`)
                            WHERE /*!80000 `failures` >= 0 AND */ `lock_until` <= v_due_until AND (
                                v_from_id IS NULL
                                OR `lock_until` > v_from_lock_until
                                OR `lock_until` = v_from_lock_until
                                    AND `last_updated` > COALESCE(v_from_last_updated, -9223372036854775808)
                                OR `lock_until` = v_from_lock_until
                                    AND `last_updated` <=> v_from_last_updated AND `id` >= v_from_id)
                            ORDER BY `lock_until`, `last_updated`, `id`
                            LIMIT v_wanted
                            FOR UPDATE SKIP LOCKED
                    ) AS due;
            END IF;

            -- 2. Never updated, and 3. the longest not updated: neighbours, with one beginning.
            SET v_from_id = NULL, v_from_last_updated = NULL;
            IF v_wanted > 0 AND NOT v_joins THEN
                SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;
                SELECT `last_updated`, `id`, JSON_ARRAY(`{{id_as_json}}`) INTO v_from_last_updated, v_from_id, v_stale
                    FROM `{{loop}}` FORCE INDEX (`lock_until`)
                    WHERE /*!80000 `failures` >= 0 AND */ `lock_until` IS NULL
                        AND (`last_updated` IS NULL OR `last_updated` <= v_stale_until)
                    ORDER BY `last_updated`, `id`
                    LIMIT 1;
                -- Of one id that is all there is to know, if nobody has it locked.
                IF v_wanted = 1 AND v_attempt = 1 AND v_from_id IS NOT NULL THEN
                    SET v_wanted = 0;
                ELSE
                    SET v_stale = NULL;
                END IF;
            END IF;
            IF v_wanted > 0 AND v_from_last_updated IS NULL AND (v_joins OR v_from_id IS NOT NULL) THEN
                IF NOT v_joins THEN
                    SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;
                END IF;
                /*M! SET STATEMENT group_concat_max_len = 1073741824 FOR */
                SELECT v_wanted - COUNT(*), JSON_ARRAYAGG(`{{id_as_json}}`) INTO v_wanted, v_never
                    FROM (
                        SELECT `id`
                            FROM `{{loop}}` FORCE INDEX (`lock_until`)
                            WHERE /*!80000 `failures` >= 0 AND */ `lock_until` IS NULL AND `last_updated` IS NULL
                                AND (v_from_id IS NULL OR `id` >= v_from_id)
                            ORDER BY `id`
                            LIMIT v_wanted
                            FOR UPDATE SKIP LOCKED
                    ) AS never;
            END IF;
            IF v_wanted > 0 AND (v_joins OR v_from_id IS NOT NULL) THEN
                IF NOT v_joins THEN
                    SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;
                END IF;
                /*M! SET STATEMENT group_concat_max_len = 1073741824 FOR */
                SELECT v_wanted - COUNT(*), JSON_ARRAYAGG(`{{id_as_json}}`) INTO v_wanted, v_stale
                    FROM (
                        SELECT `id`
                            FROM `{{loop}}` FORCE INDEX (`lock_until`)
                            WHERE /*!80000 `failures` >= 0 AND */ `lock_until` IS NULL AND `last_updated` <= v_stale_until AND (
                                v_from_last_updated IS NULL
                                OR `last_updated` > v_from_last_updated
                                OR `last_updated` = v_from_last_updated AND `id` >= v_from_id)
                            ORDER BY `last_updated`, `id`
                            LIMIT v_wanted
                            FOR UPDATE SKIP LOCKED
                    ) AS stale;
            END IF;

            SET v_found = in_max_ids - v_wanted;
            IF v_found = 0 THEN
                LEAVE attempts;
            END IF;
            -- A server cuts an aggregate that outgrows its packet.
            IF v_found <> COALESCE(JSON_LENGTH(v_due), 0)
                + COALESCE(JSON_LENGTH(v_never), 0) + COALESCE(JSON_LENGTH(v_stale), 0)
            THEN
                SET v_error = CONCAT('max_ids: ', in_max_ids, ' ids are more than max_allowed_packet holds');
                SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
            END IF;
            SET v_ids = CONCAT_WS(',', v_due, v_never, v_stale);
            IF v_claims IS NOT NULL THEN
                -- What was claimed before, and somebody has unlocked since, is had already.
                /*M! SET STATEMENT group_concat_max_len = 1073741824 FOR */
                SELECT JSON_ARRAYAGG(v), COUNT(*) INTO v_ids, v_found
                    FROM (
                        SELECT MIN(v) AS v
                            FROM JSON_TABLE(CONCAT('[', v_claims, ',', v_ids, ']'), '$[*][*]' COLUMNS (
                                position FOR ORDINALITY,
                                v TEXT CHARACTER SET utf8mb4 PATH '$')) AS json_ids
                            GROUP BY CAST(v AS BINARY)
                            HAVING MIN(position) > in_max_ids - v_left
                            ORDER BY MIN(position) LIMIT v_left
                    ) AS others;
                IF v_found = 0 THEN
                    LEAVE attempts;
                END IF;
            END IF;
            SET v_candidates = v_ids;
            SET v_ids = CONCAT('[', v_candidates,
                IF(v_mutex IS NULL, '', CONCAT(',[', JSON_EXTRACT(CONCAT('[', v_candidates, ']'), '$[0][0]'), ']')), ']');

            -- Each candidate is looked at again, as it is now, and locked, unless somebody else has: the first that can't be
            -- had (or stands there twice) ends the claim. LAST_INSERT_ID counts on, so that afterwards it is known which they are.
            -- At the end of the list the first one stands again. By then all are updated, and the next one may come: it sees
            -- that they are locked, though the commit may take its time. (The alias is none that the loop itself may have.)
            BEGIN
                -- No room, a wait for too long, or another node of a cluster was first: it is known that this claim is undone.
                -- (What the other node did is not seen here yet: to try at once would meet it again.)
                DECLARE EXIT HANDLER FOR 1114, 1205, 1180, 3101
                BEGIN
                    SET v_candidates = NULL;
                    RESIGNAL;
                END;
                DO LAST_INSERT_ID(0);
                INSERT INTO `{{loop}}` (`id`)
                    SELECT `id`
                        FROM (
                            SELECT position, `{{id}}` AS k
                                FROM JSON_TABLE(v_ids, '$[*][*]' COLUMNS (
                                    position FOR ORDINALITY,
                                    v TEXT CHARACTER SET utf8mb4 PATH '$')) AS json_ids
                        ) AS candidates
                        STRAIGHT_JOIN `{{loop}}` AS `{{loop}}_row` FORCE INDEX (PRIMARY) ON `id` = candidates.k
                        WHERE `lock_until` <= v_now
                            OR `lock_until` IS NULL AND (`last_updated` IS NULL OR `last_updated` <= v_stale_until)
                        FOR UPDATE SKIP LOCKED
                    ON DUPLICATE KEY UPDATE
                        `lock_until` = IF(COALESCE(`{{loop}}`.`lock_until` <= v_now, TRUE)
                                AND LAST_INSERT_ID() = candidates.position - 1 AND LAST_INSERT_ID(candidates.position),
                            v_lock_until,
                            IF(candidates.position > v_found AND RELEASE_LOCK(v_mutex),
                                `{{loop}}`.`lock_until`, `{{loop}}`.`lock_until`));
            END;
            SET v_claimed = LAST_INSERT_ID();
            IF v_claimed < v_found THEN
                /*M! SET STATEMENT group_concat_max_len = 1073741824 FOR */
                SELECT JSON_ARRAYAGG(v) INTO v_candidates
                    FROM JSON_TABLE(v_ids, '$[*][*]' COLUMNS (
                        position FOR ORDINALITY,
                        v TEXT CHARACTER SET utf8mb4 PATH '$')) AS json_ids
                    WHERE position <= v_claimed;
            END IF;
            IF v_claimed > 0 THEN
                SET v_claims = CONCAT_WS(',', v_claims, v_candidates);
            END IF;
            -- If all were had, and fewer than wanted, there are no more.
            SET v_left = IF(v_claimed = v_found AND v_wanted > 0, 0, v_left - v_claimed);
        END;
    END WHILE;

    DO LAST_INSERT_ID(v_last_insert_id), IF(v_mutex IS NULL, NULL, RELEASE_LOCK(v_mutex));

    -- In their order, in which JSON_TABLE goes through an array: to sort them would take twice as long as to read them.
    SELECT `{{id}}` AS `id`, v_lock_until AS `lock_until`
        FROM JSON_TABLE(CONCAT('[', COALESCE(v_claims, ''), ']'), '$[*][*]' COLUMNS (
            v TEXT CHARACTER SET utf8mb4 PATH '$')) AS json_ids;
END
