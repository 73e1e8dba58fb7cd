-- What matters has changed: it has priority from now on, like a bump. That never puts off what has it earlier.
IF NEW.`{{source_id}}` IS NOT NULL AND (`{{changed}}`) THEN
    INSERT INTO `{{loop}}` (`id`, `lock_until`) VALUES (NEW.`{{source_id}}`, UNIX_TIMESTAMP())
        ON DUPLICATE KEY UPDATE
            `lock_until` = IF(COALESCE(`lock_until` > UNIX_TIMESTAMP(), TRUE), UNIX_TIMESTAMP(), `lock_until`);
END IF;
