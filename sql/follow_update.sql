CREATE TRIGGER `{{loop}}_update` AFTER UPDATE ON `{{source}}` FOR EACH ROW
doloop_follow: BEGIN
    -- Another id: the old one leaves, the new one joins.
    IF NOT (NEW.`{{source_id}}` <=> OLD.`{{source_id}}`) THEN
        DELETE FROM `{{loop}}` WHERE `id` = OLD.`{{source_id}}`;
        IF NEW.`{{source_id}}` IS NOT NULL THEN
            INSERT INTO `{{loop}}` (`id`) VALUES (NEW.`{{source_id}}`) ON DUPLICATE KEY UPDATE `id` = `id`;
        END IF;
    END IF;
    -- {{follow_bump}}
END
