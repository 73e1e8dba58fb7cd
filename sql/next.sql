CREATE PROCEDURE `{{loop}}_next`(
    IN in_min_loop_time BIGINT
)
    READS SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'doloop {{version}}: when would get, called with this min_loop_time (3600), have something? Answers: due_in, s: 0 now, NULL never unless something is added'
BEGIN
    DECLARE v_now BIGINT DEFAULT UNIX_TIMESTAMP();
    DECLARE v_stale_until BIGINT;
    DECLARE v_error VARCHAR(128) CHARACTER SET utf8mb4;

    SET in_min_loop_time = COALESCE(in_min_loop_time, 3600);
    IF in_min_loop_time NOT BETWEEN 0 AND 2147483647 THEN
        SET v_error = CONCAT('min_loop_time: ', in_min_loop_time,
            ' is not a number of seconds from 0 to 2147483647');
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
    END IF;
    SET v_stale_until = v_now - in_min_loop_time;

    -- The stale are read from their end: these have nothing before them that updates left behind and the server did not
    -- purge yet, as the first ones have.
    SELECT GREATEST(COALESCE((
            SELECT IF(MAX(`last_updated`) IS NULL, NULL, v_now)
                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                WHERE `lock_until` IS NULL AND `last_updated` <= v_stale_until
        ), (
            SELECT v_now
                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                WHERE `lock_until` IS NULL AND `last_updated` IS NULL
                LIMIT 1
        ), (
            SELECT MIN(due_at)
                FROM (
                    SELECT MIN(`lock_until`) AS due_at
                        FROM `{{loop}}` FORCE INDEX (`lock_until`)
                    UNION ALL
                    SELECT MIN(`last_updated`) + in_min_loop_time
                        FROM `{{loop}}` FORCE INDEX (`lock_until`)
                        WHERE `lock_until` IS NULL
                ) AS candidates
        )) - v_now, 0) AS `due_in`;
END
