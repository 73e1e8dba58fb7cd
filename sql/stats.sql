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
    DECLARE v_time_1, v_time_2, v_time_3, v_time_4, v_time_5, v_time_6, v_time_7 BIGINT;
    DECLARE v_rest INT;
    DECLARE v_never BIGINT DEFAULT -9223372036854775808; -- before all times

    IF in_delay_thresholds IS NOT NULL THEN
        BEGIN
            DECLARE EXIT HANDLER FOR 3157 BEGIN END; -- to MySQL, what is nested too deeply is an error
            IF LOCATE('\0', CAST(in_delay_thresholds AS BINARY)) = 0 AND JSON_VALID(in_delay_thresholds) THEN
                IF JSON_TYPE(in_delay_thresholds) = 'ARRAY' THEN
                    SET v_thresholds = in_delay_thresholds;
                ELSEIF JSON_VALID(CONCAT('[', in_delay_thresholds, ']')) THEN
                    SET v_thresholds = CONCAT('[', in_delay_thresholds, ']');
                END IF;
            END IF;
        END;
        IF v_thresholds IS NULL THEN
            SET v_error = CONCAT('delay_thresholds: ', REPLACE(LEFT(in_delay_thresholds, 48), '\0', '?'),
                ' is not JSON: an array of seconds');
            SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
        END IF;
        SELECT MIN(IF(COALESCE(v REGEXP '\\A(0|[1-9][0-9]{0,9})\\z' AND v + 0 <= 2147483647, FALSE),
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

        -- The seven least thresholds part the unlocked into ages, from 1 (younger than all of them) to 8. Each is a range
        -- of the index, counted once; but for one, v_rest, which is what remains of the total. That had best be the
        -- largest: the one in the middle of all times, since these are spread about evenly. (Further thresholds are slow.)
        SELECT v_now - COALESCE(MAX(IF(n = 1, threshold, NULL)), 2147483648),
                v_now - COALESCE(MAX(IF(n = 2, threshold, NULL)), 2147483648),
                v_now - COALESCE(MAX(IF(n = 3, threshold, NULL)), 2147483648),
                v_now - COALESCE(MAX(IF(n = 4, threshold, NULL)), 2147483648),
                v_now - COALESCE(MAX(IF(n = 5, threshold, NULL)), 2147483648),
                v_now - COALESCE(MAX(IF(n = 6, threshold, NULL)), 2147483648),
                v_now - COALESCE(MAX(IF(n = 7, threshold, NULL)), 2147483648)
            INTO v_time_1, v_time_2, v_time_3, v_time_4, v_time_5, v_time_6, v_time_7
            FROM (
                SELECT threshold, DENSE_RANK() OVER (ORDER BY threshold) AS n
                    FROM JSON_TABLE(v_thresholds, '$[*]' COLUMNS (threshold BIGINT PATH '$')) AS json_thresholds
            ) AS thresholds;
        SELECT 1 + (middle < v_time_1) + (middle < v_time_2) + (middle < v_time_3) + (middle < v_time_4)
                + (middle < v_time_5) + (middle < v_time_6) + (middle < v_time_7)
            INTO v_rest
            FROM (
                SELECT COALESCE(MIN(`last_updated`) / 2 + MAX(`last_updated`) / 2, v_now) AS middle
                    FROM `{{loop}}` FORCE INDEX (`lock_until`)
                    WHERE `lock_until` IS NULL
            ) AS unlocked;
    END IF;

    -- One statement is one read view. Of the unlocked, without thresholds, only the ends are read; the others are few.
    SELECT
        bumped.n AS `bumped`,
        locked.n AS `locked`,
        COALESCE(v_now - bumped.max_lock_until, 0) AS `min_bump_time`,
        COALESCE(v_now - bumped.min_lock_until, 0) AS `max_bump_time`,
        COALESCE(locked.min_lock_until - v_now, 0) AS `min_lock_time`,
        COALESCE(locked.max_lock_until - v_now, 0) AS `max_lock_time`,
        GREATEST(v_now - COALESCE(NULLIF(GREATEST(
            unlocked.last_updated, bumped.last_updated, locked.last_updated), v_never), v_now), 0) AS `min_update_time`,
        v_now - LEAST(unlocked.first_updated, bumped.first_updated, locked.first_updated, v_now) AS `max_update_time`,
        ends.min_id AS `min_id`,
        ends.max_id AS `max_id`,
        IF(v_thresholds IS NULL, NULL, CAST(counts.total AS SIGNED)) AS `total`,
        IF(v_thresholds IS NULL, NULL, CAST(counts.never_updated AS SIGNED)) AS `never_updated`,
        IF(v_thresholds IS NULL, NULL, COALESCE((
            SELECT CAST(JSON_OBJECTAGG(threshold, CAST(CASE v_now - threshold
                    WHEN v_time_1 THEN counts.older_1
                    WHEN v_time_2 THEN counts.older_2
                    WHEN v_time_3 THEN counts.older_3
                    WHEN v_time_4 THEN counts.older_4
                    WHEN v_time_5 THEN counts.older_5
                    WHEN v_time_6 THEN counts.older_6
                    WHEN v_time_7 THEN counts.older_7
                    ELSE (SELECT COUNT(*) FROM `{{loop}}` WHERE `last_updated` < v_now - threshold)
                END AS SIGNED)) AS CHAR)
                FROM (
                    SELECT DISTINCT threshold
                        FROM JSON_TABLE(v_thresholds, '$[*]' COLUMNS (threshold BIGINT PATH '$')) AS json_thresholds
                ) AS thresholds
            ), '{}')) AS `delayed`
        FROM (
            SELECT MIN(`id`) AS min_id, MAX(`id`) AS max_id
                FROM `{{loop}}`
        ) AS ends CROSS JOIN (
            SELECT COALESCE(MIN(`last_updated`), v_now) AS first_updated,
                COALESCE(MAX(`last_updated`), v_never) AS last_updated
                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                WHERE `lock_until` IS NULL
        ) AS unlocked CROSS JOIN (
            SELECT COUNT(*) AS n, MIN(`lock_until`) AS min_lock_until, MAX(`lock_until`) AS max_lock_until,
                COALESCE(MIN(`last_updated`), v_now) AS first_updated,
                COALESCE(MAX(`last_updated`), v_never) AS last_updated
                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                WHERE `lock_until` <= v_now
        ) AS bumped CROSS JOIN (
            SELECT COUNT(*) AS n, MIN(`lock_until`) AS min_lock_until, MAX(`lock_until`) AS max_lock_until,
                COALESCE(MIN(`last_updated`), v_now) AS first_updated,
                COALESCE(MAX(`last_updated`), v_never) AS last_updated
                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                WHERE `lock_until` > v_now
        ) AS locked CROSS JOIN (
            SELECT SUM(n) AS total,
                SUM(IF(age = 0, n, 0)) AS never_updated,
                SUM(IF(age > 1, n, 0)) AS older_1,
                SUM(IF(age > 2, n, 0)) AS older_2,
                SUM(IF(age > 3, n, 0)) AS older_3,
                SUM(IF(age > 4, n, 0)) AS older_4,
                SUM(IF(age > 5, n, 0)) AS older_5,
                SUM(IF(age > 6, n, 0)) AS older_6,
                SUM(IF(age > 7, n, 0)) AS older_7
                FROM (
                    SELECT age, IF(is_total, n - SUM(IF(is_total, 0, n)) OVER (), n) AS n
                        FROM (
                            SELECT v_rest AS age, TRUE AS is_total, IF(v_rest IS NULL, NULL,
                                (SELECT COUNT(*) FROM `{{loop}}` FORCE INDEX (PRIMARY))) AS n
                            UNION ALL
                            SELECT 0, FALSE, COUNT(*)
                                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                                WHERE v_rest > 0 AND `lock_until` IS NULL AND `last_updated` IS NULL
                            UNION ALL
                            SELECT 1, FALSE, COUNT(*)
                                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                                WHERE v_rest <> 1 AND `lock_until` IS NULL AND `last_updated` >= v_time_1
                            UNION ALL
                            SELECT 2, FALSE, COUNT(*)
                                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                                WHERE v_rest <> 2 AND `lock_until` IS NULL
                                    AND `last_updated` BETWEEN v_time_2 AND v_time_1 - 1
                            UNION ALL
                            SELECT 3, FALSE, COUNT(*)
                                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                                WHERE v_rest <> 3 AND `lock_until` IS NULL
                                    AND `last_updated` BETWEEN v_time_3 AND v_time_2 - 1
                            UNION ALL
                            SELECT 4, FALSE, COUNT(*)
                                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                                WHERE v_rest <> 4 AND `lock_until` IS NULL
                                    AND `last_updated` BETWEEN v_time_4 AND v_time_3 - 1
                            UNION ALL
                            SELECT 5, FALSE, COUNT(*)
                                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                                WHERE v_rest <> 5 AND `lock_until` IS NULL
                                    AND `last_updated` BETWEEN v_time_5 AND v_time_4 - 1
                            UNION ALL
                            SELECT 6, FALSE, COUNT(*)
                                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                                WHERE v_rest <> 6 AND `lock_until` IS NULL
                                    AND `last_updated` BETWEEN v_time_6 AND v_time_5 - 1
                            UNION ALL
                            SELECT 7, FALSE, COUNT(*)
                                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                                WHERE v_rest <> 7 AND `lock_until` IS NULL
                                    AND `last_updated` BETWEEN v_time_7 AND v_time_6 - 1
                            UNION ALL
                            SELECT 8, FALSE, COUNT(*)
                                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                                WHERE v_rest <> 8 AND `lock_until` IS NULL AND `last_updated` < v_time_7
                            UNION ALL
                            SELECT IF(`last_updated` IS NULL, 0, 1 + (`last_updated` < v_time_1)
                                    + (`last_updated` < v_time_2) + (`last_updated` < v_time_3)
                                    + (`last_updated` < v_time_4) + (`last_updated` < v_time_5)
                                    + (`last_updated` < v_time_6) + (`last_updated` < v_time_7)) AS age, FALSE, COUNT(*)
                                FROM `{{loop}}` FORCE INDEX (`lock_until`)
                                WHERE v_rest > 0 AND `lock_until` IS NOT NULL
                                GROUP BY age
                        ) AS parts
                ) AS ages
        ) AS counts;
END
