CREATE PROCEDURE `{{loop}}_fail`(
    IN in_ids      LONGTEXT CHARACTER SET utf8mb4,
    IN in_retry_in BIGINT,
    IN in_lease    BIGINT
)
    MODIFIES SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'doloop {{version}}: an update failed: failures + 1, locked for retry_in seconds (60, doubling with each failure in a row, at most a day), then first in line. lease (NULL): only where it is still the lock. Answers: failed, the ids'
BEGIN
    DECLARE v_now BIGINT DEFAULT UNIX_TIMESTAMP();
    -- {{declare_ids}}
    -- {{declare_writing}}

    IF in_retry_in NOT BETWEEN 0 AND 2147483647 THEN
        SET v_error = CONCAT('retry_in: ', in_retry_in, ' is not a number of seconds from 0 to 2147483647');
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
    END IF;
    -- {{read_ids}}
    -- {{check_ids}}
    -- {{begin_writing}}
            -- lock_until comes first: it looks at the failures before this one.
            INSERT INTO `{{loop}}` (`id`)
                SELECT `id` FROM `{{sorted_ids}}` AS ids
                    STRAIGHT_JOIN `{{loop}}` AS `{{loop}}_row` FORCE INDEX (PRIMARY) ON `id` = ids.k
                    WHERE in_lease IS NULL OR `lock_until` = in_lease
                    FOR UPDATE
                ON DUPLICATE KEY UPDATE
                    `lock_until` = v_now + COALESCE(in_retry_in, LEAST(60 << LEAST(`{{loop}}`.`failures`, 11), 86400)),
                    `failures` = IF(LAST_INSERT_ID(LAST_INSERT_ID() + 1), LEAST(`{{loop}}`.`failures` + 1, 65535), NULL);
    -- {{end_writing}}

    SELECT v_count AS `failed`;
END
