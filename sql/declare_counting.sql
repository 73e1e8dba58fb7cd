-- LAST_INSERT_ID counts rows for us, since ROW_COUNT depends on the client's flags. The caller has its value again
-- afterwards, whatever the end.
DECLARE v_count BIGINT;
DECLARE v_last_insert_id BIGINT UNSIGNED DEFAULT LAST_INSERT_ID();
DECLARE EXIT HANDLER FOR SQLEXCEPTION
BEGIN
    DO LAST_INSERT_ID(v_last_insert_id);
    RESIGNAL;
END;
