-- Leaves the ids as a JSON array in v_ids.
BEGIN
    DECLARE EXIT HANDLER FOR 3157 BEGIN END; -- to MySQL, what is nested too deeply is an error
    IF LOCATE('\0', CAST(in_ids AS BINARY)) = 0 AND JSON_VALID(in_ids) THEN -- MySQL looks at nothing behind a NUL
        IF JSON_TYPE(in_ids) = 'ARRAY' THEN
            SET v_ids = in_ids;
        ELSEIF JSON_VALID(CONCAT('[', in_ids, ']')) THEN
            SET v_ids = CONCAT('[', in_ids, ']');
        END IF;
    END IF;
END;
IF v_ids IS NULL THEN
    SET v_error = CONCAT('ids: ', COALESCE(REPLACE(LEFT(in_ids, 48), '\0', '?'), 'NULL'),
        ' is not JSON: an array of ids, or one id');
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_error;
END IF;
