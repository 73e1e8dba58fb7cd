(
    -- The ids of the call, each once, in the order of the key, in which all calls lock: no two wait for each other. What
    -- the column can't hold exactly is NULL.
    SELECT DISTINCT IF(`{{id_fits}}`, `{{id}}`, NULL) AS k
        FROM JSON_TABLE(v_ids, '$[*]' COLUMNS (
            v TEXT CHARACTER SET utf8mb4 PATH '$' NULL ON EMPTY NULL ON ERROR,
            j JSON PATH '$' NULL ON EMPTY NULL ON ERROR)) AS json_ids
        ORDER BY k LIMIT 18446744073709551615
)
