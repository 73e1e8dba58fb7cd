-- The type of a column in information_schema.columns, spelled as doloop spells id types.
CONCAT(UPPER(`data_type`), CASE
    WHEN `data_type` IN ('char', 'varchar') THEN
        CONCAT('(', `character_maximum_length`, ') CHARACTER SET ', `character_set_name`, ' COLLATE ', `collation_name`)
    WHEN `data_type` IN ('binary', 'varbinary') THEN CONCAT('(', `character_maximum_length`, ')')
    WHEN `data_type` = 'decimal' THEN CONCAT('(', `numeric_precision`, ',', `numeric_scale`, ')')
    WHEN `data_type` = 'datetime' AND `datetime_precision` > 0 THEN CONCAT('(', `datetime_precision`, ')')
    ELSE ''
    END, IF(`column_type` LIKE '%unsigned%', ' UNSIGNED', ''))
