(
    -- The ids of the call, each once, in the order of the key, in which all calls lock: no two wait for each other.
    SELECT DISTINCT `{{id}}` AS k
        FROM JSON_TABLE(v_ids, '$[*]' COLUMNS (v TEXT CHARACTER SET utf8mb4 PATH '$')) AS json_ids
        ORDER BY k LIMIT 18446744073709551615
)
