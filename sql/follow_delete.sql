CREATE TRIGGER `{{loop}}_delete` AFTER DELETE ON `{{source}}` FOR EACH ROW
doloop_follow: BEGIN
    -- A row that goes leaves the loop.
    DELETE FROM `{{loop}}` WHERE `id` = OLD.`{{source_id}}`;
END
