CREATE TABLE IF NOT EXISTS `{{loop}}` (
    `id`           {{id_type}} NOT NULL,
    `last_updated` BIGINT DEFAULT NULL COMMENT 'Unix time, s; NULL: never',
    `lock_until`   BIGINT DEFAULT NULL COMMENT 'Unix time, s; NULL: unlocked; past: bumped, or its lock ran out',
    `failures`     SMALLINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'failed updates in a row',
    PRIMARY KEY (`id`),
    KEY `lock_until` (`lock_until`, `last_updated`)
) ENGINE={{engine}}
