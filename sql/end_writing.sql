        SET v_count = LAST_INSERT_ID();
        LEAVE writing;
    END;
END LOOP;
DO LAST_INSERT_ID(v_last_insert_id);
