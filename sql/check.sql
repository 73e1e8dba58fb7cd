CREATE PROCEDURE `{{loop}}_check`(
    IN in_ids LONGTEXT CHARACTER SET utf8mb4
)
    READS SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'doloop {{version}}: reads ids without locking. Answers rows, by id: id; since_updated, s (NULL: never); locked_for, s (NULL: unlocked, negative: bumped so long ago); failures'
BEGIN
    DECLARE v_now BIGINT DEFAULT UNIX_TIMESTAMP();
    -- {{declare_ids}}

    -- {{read_ids}}
    -- {{check_ids}}

    SELECT t.`id`, v_now - t.`last_updated` AS `since_updated`, t.`lock_until` - v_now AS `locked_for`, t.`failures`
        FROM `{{sorted_ids}}` AS ids
        STRAIGHT_JOIN `{{loop}}` AS t FORCE INDEX (PRIMARY) ON t.`id` = ids.k
        ORDER BY t.`id`;
END
