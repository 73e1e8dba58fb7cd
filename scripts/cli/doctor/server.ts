/** Checks of the server. */
import { run } from '../../../src/mysql.js';
import { duration, many } from '../terminal.js';
import type { Facts } from './facts.js';
import { type Found, ok, problem, warning } from './finding.js';

const isOn = (value: string | undefined) => value !== undefined && !/^(off|0|)$/i.test(value);

/** Several servers of which more than one may write. */
export async function cluster({ connection, variables }: Facts): Promise<Found[]> {
  if (isOn(variables.get('wsrep_on'))) {
    const { rows } = await run(connection, "SHOW GLOBAL STATUS LIKE 'wsrep_ready'");
    return isOn(rows[0]?.Value as string)
      ? [ok('Galera')]
      : [problem('Galera: this node is cut off from the others, or has not caught up with them yet (wsrep_ready)')];
  }
  if (variables.get('group_replication_group_name')) {
    return isOn(variables.get('group_replication_single_primary_mode'))
      ? [ok('Group Replication with one primary')]
      : [
          warning(
            'Group Replication with several primaries: locks are seen by the others late, and calls on two of them undo ' +
              'each other. Use one, or have but one:',
            'SELECT group_replication_switch_to_single_primary_mode();',
          ),
        ];
  }
  return [ok('none')];
}

export function writable({ variables }: Facts): Found[] {
  if (isOn(variables.get('innodb_read_only'))) return [problem('InnoDB is read-only, until a restart without that')];
  return isOn(variables.get('read_only'))
    ? [problem('the server is read-only. A replica: use its primary. Else:', 'SET GLOBAL read_only = OFF;')]
    : [ok('yes')];
}

export function binaryLog({ variables }: Facts): Found[] {
  const format = variables.get('binlog_format')?.toUpperCase();
  if (!isOn(variables.get('log_bin'))) return [ok('off')];
  return format === 'STATEMENT'
    ? [
        problem(
          'binlog_format is STATEMENT, which refuses what the procedures write (1665). For new sessions, and in the ' +
            'option file:',
          "SET GLOBAL binlog_format = 'ROW';",
        ),
      ]
    : [ok(format ?? 'on')];
}

/** From when on an open transaction is told, s: none of doloop's own takes that long. */
const LONG = 60;
/** From when on it is told how many transactions the server has not purged behind. */
const MANY = 1_000_000;
const COST = 'what updates leave behind can not be purged, and get reads past each of it';

/** Transactions that are open for long: snapshots that keep the server from purging, and locks that nobody gets past. */
export async function snapshots({ connection }: Facts): Promise<Found[]> {
  const { rows: open } = await run(
    connection,
    `SELECT \`trx_mysql_thread_id\` AS \`id\`, TIMESTAMPDIFF(SECOND, \`trx_started\`, NOW()) AS \`seconds\`,
        CONCAT(\`user\`, '@', \`host\`) AS \`who\`
      FROM \`information_schema\`.\`innodb_trx\`
      LEFT JOIN \`information_schema\`.\`processlist\` ON \`id\` = \`trx_mysql_thread_id\`
      WHERE \`trx_mysql_thread_id\` <> CONNECTION_ID() AND TIMESTAMPDIFF(SECOND, \`trx_started\`, NOW()) >= ${LONG}
      ORDER BY \`trx_started\``,
  );
  const { rows: purge } = await run(
    connection,
    "SELECT `count` AS `behind` FROM `information_schema`.`innodb_metrics` WHERE `name` = 'trx_rseg_history_len'",
  );
  const behind = Number(purge[0]?.behind ?? 0);
  if (open.length === 0) {
    return behind >= MANY
      ? [
          warning(
            `the server has ${many(behind, 'transaction')} to purge behind: until then get reads past what they left`,
          ),
        ]
      : [ok(`none is open for a minute, ${many(behind, 'transaction')} to purge behind`)];
  }
  return open.map(({ id, seconds, who }) => {
    const since = `for ${duration(Number(seconds))}`;
    return id === 0
      ? warning(
          `a transaction without a connection is open ${since} (XA RECOVER names it, XA ROLLBACK ends it): ${COST}`,
        )
      : warning(`connection ${id} of ${who ?? 'somebody'} has a transaction open ${since}: ${COST}`, `KILL ${id};`);
  });
}
