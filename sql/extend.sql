CREATE PROCEDURE `{{loop}}_extend`(
    IN in_ids      LONGTEXT CHARACTER SET utf8mb4,
    IN in_lock_for BIGINT,
    IN in_lease    BIGINT
)
    MODIFIES SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'doloop {{version}}: a heartbeat: ids that are locked now stay so for lock_for (3600) seconds from now. lease (NULL): only where it is still the lock. Answers: extended, the ids; lock_until, their new lease'
BEGIN
    DECLARE v_now BIGINT DEFAULT UNIX_TIMESTAMP();
    DECLARE v_until BIGINT;
    -- {{declare_ids}}
    -- {{declare_writing}}

    SET in_lock_for = COALESCE(in_lock_for, 3600);
    IF in_lock_for NOT BETWEEN 1 AND 2147483647 THEN
        SET v_error = CONCAT('lock_for: ', in_lock_for, ' is not a number of seconds from 1 to 2147483647');
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
    END IF;
    SET v_until = v_now + in_lock_for;
    -- {{read_ids}}
    -- {{check_ids}}
    -- {{begin_writing}}
            INSERT INTO `{{loop}}` (`id`)
                SELECT t.`id` FROM `{{sorted_ids}}` AS ids
                    STRAIGHT_JOIN `{{loop}}` AS t FORCE INDEX (PRIMARY) ON t.`id` = ids.k
                    WHERE t.`lock_until` > v_now AND t.`lock_until` = COALESCE(in_lease, t.`lock_until`)
                    FOR UPDATE
                ON DUPLICATE KEY UPDATE
                    `lock_until` = IF(LAST_INSERT_ID(LAST_INSERT_ID() + 1), v_until, v_until);
    -- {{end_writing}}

    SELECT v_count AS `extended`, IF(v_count = 0, NULL, v_until) AS `lock_until`;
END
