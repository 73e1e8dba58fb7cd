CREATE PROCEDURE `{{loop}}_bump`(
    IN in_ids      LONGTEXT CHARACTER SET utf8mb4,
    IN in_lock_for BIGINT,
    IN in_auto_add BOOLEAN
)
    MODIFIES SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'doloop {{version}}: gives ids priority in lock_for (0) seconds, negative: higher priority; a lock_until never rises. auto_add (TRUE): unknown ids are added. Answers: bumped, the ids added or changed'
BEGIN
    DECLARE v_until BIGINT;
    -- {{declare_ids}}
    -- {{declare_writing}}

    SET in_lock_for = COALESCE(in_lock_for, 0);
    IF in_lock_for NOT BETWEEN -2147483647 AND 2147483647 THEN
        SET v_error = CONCAT('lock_for: ', in_lock_for, ' is not a number of seconds from -2147483647 to 2147483647');
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
    END IF;
    SET v_until = UNIX_TIMESTAMP() + in_lock_for;
    -- {{read_ids}}
    IF NOT in_auto_add THEN
        -- {{check_ids}}
    END IF;
    -- {{begin_writing}}
            IF COALESCE(in_auto_add, TRUE) THEN
                -- LAST_INSERT_ID counts the ids, less the rows left as they were.
                INSERT INTO `{{loop}}` (`id`, `lock_until`)
                    SELECT ids.k, IF(LAST_INSERT_ID(LAST_INSERT_ID() + 1), v_until, v_until) FROM `{{sorted_ids}}` AS ids
                    ON DUPLICATE KEY UPDATE
                        `lock_until` = IF(COALESCE(`lock_until` > v_until, TRUE),
                            v_until,
                            IF(LAST_INSERT_ID(LAST_INSERT_ID() - 1), `lock_until`, `lock_until`));
            ELSE
                INSERT INTO `{{loop}}` (`id`)
                    SELECT t.`id` FROM `{{sorted_ids}}` AS ids
                        STRAIGHT_JOIN `{{loop}}` AS t FORCE INDEX (PRIMARY) ON t.`id` = ids.k
                        WHERE COALESCE(t.`lock_until` > v_until, TRUE)
                        FOR UPDATE
                    ON DUPLICATE KEY UPDATE
                        `lock_until` = IF(LAST_INSERT_ID(LAST_INSERT_ID() + 1), v_until, v_until);
            END IF;
    -- {{end_writing}}

    SELECT v_count AS `bumped`;
END
