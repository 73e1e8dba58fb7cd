-- An id that the column can't hold exactly refuses the whole call.
SELECT MIN(IF(`{{id_fits}}`, NULL, COALESCE(CAST(j AS CHAR), 'null')))
    INTO v_bad
    FROM JSON_TABLE(v_ids, '$[*]' COLUMNS (
        v TEXT CHARACTER SET utf8mb4 PATH '$' NULL ON EMPTY NULL ON ERROR,
        j JSON PATH '$' NULL ON EMPTY NULL ON ERROR)) AS json_ids;
IF v_bad IS NOT NULL THEN
    SET v_error = LEFT(CONCAT('ids: ', LEFT(v_bad, 48), ' is not ', '{{id_rule}}'), 128);
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
END IF;
