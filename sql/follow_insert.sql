CREATE TRIGGER `{{loop}}_insert` AFTER INSERT ON `{{source}}` FOR EACH ROW
doloop_follow: BEGIN
    -- A new row joins the loop.
    IF NEW.`{{source_id}}` IS NOT NULL THEN
        INSERT INTO `{{loop}}` (`id`) VALUES (NEW.`{{source_id}}`) ON DUPLICATE KEY UPDATE `id` = `id`;
    END IF;
END
