CREATE PROCEDURE `{{loop}}_stats`(
    IN in_delay_thresholds LONGTEXT CHARACTER SET utf8mb4
)
    READS SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'doloop {{version}}: reads the whole loop without locking, as of one moment; times in s, 0 where there is none. delay_thresholds (NULL), a JSON array of s: also total, never_updated, and delayed, a JSON object: the ids last updated longer ago than each'
BEGIN
    DECLARE v_now BIGINT DEFAULT UNIX_TIMESTAMP();
    DECLARE v_thresholds LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_bad LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_error VARCHAR(128) CHARACTER SET utf8mb4;

    IF in_delay_thresholds IS NOT NULL THEN
        IF NOT JSON_VALID(in_delay_thresholds) THEN
            SET v_error = CONCAT('delay_thresholds: ', LEFT(in_delay_thresholds, 48), ' is not JSON: an array of seconds');
            SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
        END IF;
        SET v_thresholds = IF(JSON_TYPE(in_delay_thresholds) = 'ARRAY',
            in_delay_thresholds, CONCAT('[', in_delay_thresholds, ']'));
        SELECT MIN(IF(COALESCE(v REGEXP '^(0|[1-9][0-9]{0,9})\\z' AND v + 0 <= 2147483647, FALSE),
                NULL, COALESCE(CAST(j AS CHAR), 'null')))
            INTO v_bad
            FROM JSON_TABLE(v_thresholds, '$[*]' COLUMNS (
                v TEXT CHARACTER SET utf8mb4 PATH '$' NULL ON EMPTY NULL ON ERROR,
                j JSON PATH '$' NULL ON EMPTY NULL ON ERROR)) AS json_thresholds;
        IF v_bad IS NOT NULL THEN
            SET v_error = CONCAT('delay_thresholds: ', LEFT(v_bad, 48),
                ' is not a number of seconds from 0 to 2147483647');
            SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
        END IF;
    END IF;

    -- One statement is one read view. The ranges of a lock_until that is set are read whole, of the rest just the ends.
    SELECT
        CAST(lockable.bumped AS SIGNED) AS `bumped`,
        CAST(lockable.locked AS SIGNED) AS `locked`,
        COALESCE(lockable.min_bump_time, 0) AS `min_bump_time`,
        COALESCE(lockable.max_bump_time, 0) AS `max_bump_time`,
        COALESCE(lockable.min_lock_time, 0) AS `min_lock_time`,
        COALESCE(lockable.max_lock_time, 0) AS `max_lock_time`,
        GREATEST(v_now - COALESCE(GREATEST(unlocked.last_updated, lockable.last_updated),
            unlocked.last_updated, lockable.last_updated, v_now), 0) AS `min_update_time`,
        GREATEST(v_now - COALESCE(LEAST(unlocked.first_updated, lockable.first_updated),
            unlocked.first_updated, lockable.first_updated, v_now), 0) AS `max_update_time`,
        ends.min_id AS `min_id`,
        ends.max_id AS `max_id`,
        IF(v_thresholds IS NULL, NULL, (SELECT COUNT(*) FROM `{{loop}}`)) AS `total`,
        IF(v_thresholds IS NULL, NULL,
            (SELECT COUNT(*) FROM `{{loop}}` WHERE `last_updated` IS NULL)) AS `never_updated`,
        IF(v_thresholds IS NULL, NULL, COALESCE((
            SELECT CAST(JSON_OBJECTAGG(threshold, n) AS CHAR)
                FROM (
                    SELECT threshold, (SELECT COUNT(*) FROM `{{loop}}` WHERE `last_updated` < v_now - threshold) AS n
                        FROM (
                            SELECT DISTINCT threshold
                                FROM JSON_TABLE(v_thresholds, '$[*]' COLUMNS (threshold BIGINT PATH '$')) AS json_thresholds
                        ) AS thresholds
                ) AS counts
            ), '{}')) AS `delayed`
        FROM (
            SELECT MIN(`id`) AS min_id, MAX(`id`) AS max_id
                FROM `{{loop}}`
        ) AS ends CROSS JOIN (
            SELECT MIN(`last_updated`) AS first_updated, MAX(`last_updated`) AS last_updated
                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                WHERE `lock_until` IS NULL
        ) AS unlocked CROSS JOIN (
            SELECT
                COALESCE(SUM(`lock_until` <= v_now), 0) AS bumped,
                COALESCE(SUM(`lock_until` > v_now), 0) AS locked,
                v_now - MAX(IF(`lock_until` <= v_now, `lock_until`, NULL)) AS min_bump_time,
                v_now - MIN(IF(`lock_until` <= v_now, `lock_until`, NULL)) AS max_bump_time,
                MIN(IF(`lock_until` > v_now, `lock_until`, NULL)) - v_now AS min_lock_time,
                MAX(IF(`lock_until` > v_now, `lock_until`, NULL)) - v_now AS max_lock_time,
                MIN(`last_updated`) AS first_updated,
                MAX(`last_updated`) AS last_updated
                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                WHERE `lock_until` IS NOT NULL
        ) AS lockable;
END
