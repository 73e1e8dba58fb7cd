-- Leaves the ids as a JSON array in v_ids and how many different ones in v_count.
-- An id that the column can't hold exactly refuses the whole call.
IF in_ids IS NULL OR NOT JSON_VALID(in_ids) THEN
    SET v_error = CONCAT('ids: ', COALESCE(LEFT(in_ids, 48), 'NULL'), ' is not JSON: an array of ids, or one id');
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
END IF;
SET v_ids = IF(JSON_TYPE(in_ids) = 'ARRAY', in_ids, CONCAT('[', in_ids, ']'));
SELECT COUNT(DISTINCT `{{id}}`), MIN(IF(`{{id_fits}}`, NULL, COALESCE(CAST(j AS CHAR), 'null')))
    INTO v_count, v_bad
    FROM JSON_TABLE(v_ids, '$[*]' COLUMNS (
        v TEXT CHARACTER SET utf8mb4 PATH '$' NULL ON EMPTY NULL ON ERROR,
        j JSON PATH '$' NULL ON EMPTY NULL ON ERROR)) AS json_ids;
IF v_bad IS NOT NULL THEN
    SET v_error = LEFT(CONCAT('ids: ', LEFT(v_bad, 48), ' is not ', '{{id_rule}}'), 128);
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
END IF;
