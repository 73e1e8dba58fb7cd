-- {{refuse_read_only}}
-- A deadlock with somebody's transaction has rolled back this one statement, which is then made again; or, if the caller
-- has a transaction open, all of that: the caller has to repeat it. (In one, a savepoint outlives its own statement.)
IF @@autocommit THEN
    BEGIN
        DECLARE EXIT HANDLER FOR 1305 SET v_repeats_left = 10;
        SAVEPOINT `doloop: open?`;
        RELEASE SAVEPOINT `doloop: open?`;
    END;
END IF;
writing: LOOP
    BEGIN
        DECLARE EXIT HANDLER FOR 1213
        BEGIN
            IF v_repeats_left = 0 THEN
                DO LAST_INSERT_ID(v_last_insert_id);
                RESIGNAL;
            END IF;
            SET v_repeats_left = v_repeats_left - 1;
            DO SLEEP(RAND() / 50); -- lest the two meet again
        END;
        DO LAST_INSERT_ID(0);
