import type { Connection } from 'mysql2/promise';
import { run } from './mysql.js';

/** The oldest servers with SKIP LOCKED and JSON_TABLE. */
const OLDEST = { MySQL: [8, 0, 19], MariaDB: [10, 6, 0] } as const;
export type ServerKind = keyof typeof OLDEST;

/** Servers that speak the protocol, and what they lack. By their documentation: none of them can run here. */
const UNABLE: [RegExp, string][] = [
  [/tidb/i, 'TiDB has no stored procedures, and its SKIP LOCKED locks nothing'],
  [/vitess|planetscale/i, 'Vitess and PlanetScale run no such stored procedures'],
  [/singlestore|memsql/i, 'SingleStore has no SKIP LOCKED'],
  [/oceanbase/i, 'OceanBase is not MySQL enough for these procedures'],
  [/dolt/i, 'Dolt has no row locks'],
];

/**
 * Which server a version string is of.
 *
 * @param version what `SELECT @@version` says, with `@@version_comment` behind it.
 * @throws {Error} for a server that can't keep a loop; says why.
 */
export function serverKind(version: string): ServerKind {
  const unable = UNABLE.find(([name]) => name.test(version));
  if (unable) throw new Error(`server: ${unable[1]} (it is ${version})`);
  const kind: ServerKind = /mariadb/i.test(version) ? 'MariaDB' : 'MySQL';
  // Some MariaDB servers put a MySQL version in front, for old clients: 5.5.5-10.6.1-MariaDB.
  const [, ...numbers] = /(\d+)\.(\d+)\.(\d+)/.exec(version.replace(/^5\.5\.5-/, '')) ?? [];
  const older =
    OLDEST[kind].map((least, i) => Number(numbers[i] ?? 0) - least).find(difference => difference !== 0) ?? 0;
  if (older < 0) throw new Error(`server: ${kind} ${OLDEST[kind].join('.')} or newer is needed (it is ${version})`);
  return kind;
}

/** What {@link serverKind} reads, of the server at the other end. */
export async function serverVersion(connection: Connection): Promise<string> {
  const { rows } = await run(connection, "SELECT CONCAT(@@version, ' ', @@version_comment) AS version");
  return rows[0]!.version as string;
}

/** {@link serverKind} of the server at the other end. */
export async function connectedServer(connection: Connection): Promise<ServerKind> {
  return serverKind(await serverVersion(connection));
}
