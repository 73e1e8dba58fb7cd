-- LAST_INSERT_ID counts rows for us, since ROW_COUNT depends on the client's flags. The caller has its value again
-- afterwards, whatever the end.
DECLARE v_count BIGINT;
DECLARE v_last_insert_id BIGINT UNSIGNED DEFAULT LAST_INSERT_ID();
DECLARE v_repeats_left INT DEFAULT 0;
DECLARE EXIT HANDLER FOR SQLEXCEPTION
BEGIN
    DO LAST_INSERT_ID(v_last_insert_id);
    -- An INSERT refuses an id that the column can't hold, but not in our words.
    -- {{check_ids}}
    RESIGNAL;
END;
