CREATE PROCEDURE `{{loop}}_add`(
    IN in_ids     LONGTEXT CHARACTER SET utf8mb4,
    IN in_updated BOOLEAN
)
    MODIFIES SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'doloop {{version}}: puts ids in; those already in stay as they are. updated (FALSE): as if updated now. Answers: added, the ids that are new'
BEGIN
    DECLARE v_last_updated BIGINT DEFAULT IF(in_updated, UNIX_TIMESTAMP(), NULL);
    -- {{declare_ids}}
    -- {{declare_writing}}

    -- {{read_ids}}
    -- {{begin_writing}}
            -- LAST_INSERT_ID counts the ids, less the rows that were there before.
            INSERT INTO `{{loop}}` (`id`, `last_updated`)
                SELECT ids.k, IF(LAST_INSERT_ID(LAST_INSERT_ID() + 1), v_last_updated, v_last_updated)
                    FROM `{{sorted_ids}}` AS ids
                ON DUPLICATE KEY UPDATE
                    `failures` = IF(LAST_INSERT_ID(LAST_INSERT_ID() - 1), `failures`, `failures`);
    -- {{end_writing}}

    SELECT v_count AS `added`;
END
