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
    -- {{declare_inserting}}

    -- {{read_ids}}

    -- LAST_INSERT_ID counts the ids marked.
    DO LAST_INSERT_ID(0);
    IF COALESCE(in_auto_add, TRUE) THEN
        INSERT INTO `{{loop}}` (`id`, `last_updated`)
            SELECT ids.k, IF(LAST_INSERT_ID(LAST_INSERT_ID() + 1), v_now, v_now) FROM `{{sorted_ids}}` AS ids
            ON DUPLICATE KEY UPDATE
                `last_updated` = v_now,
                `lock_until` = IF(in_lease IS NULL OR `lock_until` = in_lease, NULL, `lock_until`),
                `failures` = 0;
    ELSE
        -- {{check_ids}}
        /*M! SET STATEMENT sql_safe_updates = 0 FOR */
        UPDATE `{{sorted_ids}}` AS ids
            STRAIGHT_JOIN `{{loop}}` AS t FORCE INDEX (PRIMARY) ON t.`id` = ids.k
            SET t.`lock_until` = IF(in_lease IS NULL OR t.`lock_until` = in_lease, NULL, t.`lock_until`),
                t.`last_updated` = v_now,
                t.`failures` = IF(LAST_INSERT_ID(LAST_INSERT_ID() + 1), 0, 0);
    END IF;
    SET v_count = LAST_INSERT_ID();
    DO LAST_INSERT_ID(v_last_insert_id);

    SELECT v_count AS `updated`;
END
