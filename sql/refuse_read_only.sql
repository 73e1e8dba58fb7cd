-- The definer may have the right to write even here, on a replica, where nobody is to be given an id.
IF CAST(@@read_only AS CHAR) NOT IN ('0', 'OFF') THEN
    SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290,
        MESSAGE_TEXT = 'the server is read_only: a replica, or closed for writing; call where it may be written';
END IF;
