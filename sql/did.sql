CREATE PROCEDURE `{{loop}}_did`(
    IN in_ids      LONGTEXT CHARACTER SET utf8mb4,
    IN in_auto_add BOOLEAN,
    IN in_lease    BIGINT
)
    MODIFIES SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'doloop {{version}}: marks ids updated now, unlocks them, failures = 0. auto_add (TRUE): unknown ids are added. lease (NULL): a lock that is no longer this one stays. Answers: updated, the ids marked'
BEGIN
    DECLARE v_now BIGINT DEFAULT UNIX_TIMESTAMP();
    -- {{declare_ids}}
    -- {{declare_writing}}

    -- {{read_ids}}
    IF NOT in_auto_add THEN
        -- {{check_ids}}
    END IF;
    -- {{begin_writing}}
            -- LAST_INSERT_ID counts the ids marked.
            IF COALESCE(in_auto_add, TRUE) THEN
                INSERT INTO `{{loop}}` (`id`, `last_updated`)
                    SELECT ids.k, IF(LAST_INSERT_ID(LAST_INSERT_ID() + 1), v_now, v_now) FROM `{{sorted_ids}}` AS ids
                    ON DUPLICATE KEY UPDATE
                        `last_updated` = v_now,
                        `lock_until` = IF(in_lease IS NULL OR `lock_until` = in_lease, NULL, `lock_until`),
                        `failures` = 0;
            ELSE
                INSERT INTO `{{loop}}` (`id`)
                    SELECT `id` FROM `{{sorted_ids}}` AS ids
                        STRAIGHT_JOIN `{{loop}}` AS `{{loop}}_row` FORCE INDEX (PRIMARY) ON `id` = ids.k
                        FOR UPDATE
                    ON DUPLICATE KEY UPDATE
                        `last_updated` = v_now,
                        `lock_until` = IF(in_lease IS NULL OR `{{loop}}`.`lock_until` = in_lease, NULL, `{{loop}}`.`lock_until`),
                        `failures` = IF(LAST_INSERT_ID(LAST_INSERT_ID() + 1), 0, 0);
            END IF;
    -- {{end_writing}}

    SELECT v_count AS `updated`;
END
