-- Leaves the ids as a JSON array in v_ids.
IF in_ids IS NULL OR NOT JSON_VALID(in_ids) THEN
    SET v_error = CONCAT('ids: ', COALESCE(LEFT(in_ids, 48), 'NULL'), ' is not JSON: an array of ids, or one id');
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
END IF;
SET v_ids = IF(JSON_TYPE(in_ids) = 'ARRAY', in_ids, CONCAT('[', in_ids, ']'));
