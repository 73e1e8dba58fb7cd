CREATE PROCEDURE `{{loop}}_remove`(
    IN in_ids LONGTEXT CHARACTER SET utf8mb4
)
    MODIFIES SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'doloop {{version}}: takes ids out. Answers: removed, the ids that were in'
BEGIN
    -- {{declare_ids}}
    -- {{declare_writing}}

    -- {{read_ids}}
    -- {{check_ids}}
    -- {{begin_writing}}
            /*M! SET STATEMENT sql_safe_updates = 0 FOR */
            DELETE t FROM `{{sorted_ids}}` AS ids
                STRAIGHT_JOIN `{{loop}}` AS t FORCE INDEX (PRIMARY) ON t.`id` = ids.k;
            DO LAST_INSERT_ID(ROW_COUNT());
    -- {{end_writing}}

    SELECT v_count AS `removed`;
END
