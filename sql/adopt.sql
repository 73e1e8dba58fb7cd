CREATE PROCEDURE `{{loop}}_adopt`()
    MODIFIES SQL DATA
    SQL SECURITY INVOKER
    COMMENT 'doloop {{version}}: called while installing, then dropped: refuses a table that is no loop, adds what one of the original shape lacks'
BEGIN
    DECLARE v_difference TEXT CHARACTER SET utf8mb4;
    DECLARE v_missing TEXT CHARACTER SET utf8mb4;
    DECLARE v_key TEXT CHARACTER SET utf8mb4;
    DECLARE v_error VARCHAR(128) CHARACTER SET utf8mb4;

    SELECT CASE
            WHEN `table_type` <> 'BASE TABLE' THEN CONCAT('it is a ', `table_type`)
            WHEN `engine` <> '{{engine}}' THEN CONCAT('its engine is ', `engine`, ', not {{engine}}')
            END
        INTO v_difference
        FROM `information_schema`.`tables`
        WHERE `table_schema` = DATABASE() AND `table_name` = '{{loop}}';

    IF v_difference IS NULL THEN
        SELECT MIN(CASE
                WHEN `index_name` = 'PRIMARY' THEN
                    IF(key_columns = 'id', NULL, CONCAT('its primary key is (', key_columns, '), not (id)'))
                WHEN `non_unique` = 0 THEN CONCAT('it has a unique key ', `index_name`)
                WHEN `index_name` = 'lock_until' THEN
                    IF(key_columns = 'lock_until, last_updated', NULL, CONCAT('its key lock_until is (', key_columns, ')'))
                END),
            IF(SUM(`index_name` = 'PRIMARY') > 0, NULL, 'its primary key is (), not (id)'),
            MIN(IF(`index_name` = 'lock_until', key_columns, NULL))
            INTO v_difference, v_missing, v_key
            FROM (
                SELECT `index_name`, `non_unique`,
                        GROUP_CONCAT(`column_name`,
                            IF(`sub_part` IS NULL, '', CONCAT('(', `sub_part`, ')')),
                            IF(`collation` = 'D', ' DESC', '')
                            ORDER BY `seq_in_index` SEPARATOR ', ') AS key_columns
                    FROM `information_schema`.`statistics`
                    WHERE `table_schema` = DATABASE() AND `table_name` = '{{loop}}'
                    GROUP BY `index_name`, `non_unique`
            ) AS indexes;
        SET v_difference = COALESCE(v_missing, v_difference);
    END IF;

    IF v_difference IS NULL THEN
        SELECT MIN(CASE
                WHEN `extra` <> '' OR `column_type` LIKE '%zerofill%' THEN
                    TRIM(CONCAT('its ', `column_name`, ' is ', UPPER(`column_type`), ' ', UPPER(`extra`)))
                WHEN `column_name` = 'id' THEN
                    IF(SUBSTRING_INDEX(id_type, ' CHARACTER', 1) = '{{id_base}}'
                            AND (`collation_name` IS NULL OR `collation_name` = id_collation),
                        NULL, CONCAT('its id is ', id_type))
                WHEN `column_name` IN ('last_updated', 'lock_until') THEN
                    IF(id_type IN ('INT', 'BIGINT') AND `is_nullable` = 'YES' AND COALESCE(`column_default`, 'NULL') = 'NULL',
                        NULL, CONCAT('its ', `column_name`, ' is no BIGINT or INT DEFAULT NULL'))
                WHEN `column_name` = 'failures' THEN
                    IF(id_type = 'SMALLINT UNSIGNED' AND `is_nullable` = 'NO' AND `column_default` = '0',
                        NULL, 'its failures is no SMALLINT UNSIGNED NOT NULL DEFAULT 0')
                ELSE CONCAT('it has a column ', `column_name`)
                END),
            IF(SUM(`column_name` IN ('last_updated', 'lock_until')) = 2, NULL, 'it has no last_updated or no lock_until')
            INTO v_difference, v_missing
            FROM (
                SELECT columns.*,
                        `{{id_type_of_column}}` AS id_type,
                        COLLATION(`{{id}}`) AS id_collation
                    FROM `information_schema`.`columns` AS columns
                    CROSS JOIN (SELECT '' AS v) AS no_id
                    WHERE `table_schema` = DATABASE() AND `table_name` = '{{loop}}'
            ) AS columns;
        SET v_difference = COALESCE(v_difference, v_missing);
    END IF;

    IF v_difference IS NOT NULL THEN
        SET v_error = LEFT(CONCAT('table: ', LEFT('{{loop}}', 40), ' is no loop of ', '{{id_base}}', ': ', v_difference), 128);
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
    END IF;

    IF v_key IS NULL THEN
        ALTER TABLE `{{loop}}` ADD KEY `lock_until` (`lock_until`, `last_updated`);
    END IF;
    IF NOT EXISTS (
        SELECT * FROM `information_schema`.`columns`
            WHERE `table_schema` = DATABASE() AND `table_name` = '{{loop}}' AND `column_name` = 'failures'
    ) THEN
        ALTER TABLE `{{loop}}` ADD COLUMN `failures` SMALLINT UNSIGNED NOT NULL DEFAULT 0
            COMMENT 'failed updates in a row';
    END IF;
END
