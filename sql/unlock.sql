CREATE PROCEDURE `{{loop}}_unlock`(
    IN in_ids      LONGTEXT CHARACTER SET utf8mb4,
    IN in_auto_add BOOLEAN,
    IN in_lease    BIGINT
)
    MODIFIES SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'doloop {{version}}: unlocks ids without marking them updated. auto_add (TRUE): unknown ids are added. lease (NULL): a lock that is no longer this one stays. Answers: unlocked, the ids added or whose lock was opened'
BEGIN
    -- {{declare_ids}}
    -- {{declare_writing}}

    -- {{read_ids}}
    IF NOT in_auto_add THEN
        -- {{check_ids}}
    END IF;
    -- {{begin_writing}}
            IF COALESCE(in_auto_add, TRUE) THEN
                -- LAST_INSERT_ID counts the ids, less the rows left as they were.
                INSERT INTO `{{loop}}` (`id`, `failures`)
                    SELECT ids.k, IF(LAST_INSERT_ID(LAST_INSERT_ID() + 1), 0, 0) FROM `{{sorted_ids}}` AS ids
                    ON DUPLICATE KEY UPDATE
                        `lock_until` = IF(`lock_until` = COALESCE(in_lease, `lock_until`),
                            NULL,
                            IF(LAST_INSERT_ID(LAST_INSERT_ID() - 1), `lock_until`, `lock_until`));
            ELSE
                INSERT INTO `{{loop}}` (`id`)
                    SELECT t.`id` FROM `{{sorted_ids}}` AS ids
                        STRAIGHT_JOIN `{{loop}}` AS t FORCE INDEX (PRIMARY) ON t.`id` = ids.k
                        WHERE t.`lock_until` = COALESCE(in_lease, t.`lock_until`)
                        FOR UPDATE
                    ON DUPLICATE KEY UPDATE
                        `lock_until` = IF(LAST_INSERT_ID(LAST_INSERT_ID() + 1), NULL, NULL);
            END IF;
    -- {{end_writing}}

    SELECT v_count AS `unlocked`;
END
