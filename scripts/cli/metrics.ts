/** `doloop metrics`: how loops are doing, as text for Prometheus, once or for whoever asks by HTTP. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { echo } from 'zx';
import { quoteName } from '../../src/names.js';
import { connectionSettings } from '../connect.js';
import {
  connected,
  connecting,
  examples,
  type Flags,
  lasting,
  loopNamed,
  NO_DATABASE,
  understood,
  untilSignalled,
} from './command.js';
import { AGES, type Look, lookAsJson, lookAt } from './stats.js';
import { shownLoop, tell, teller } from './terminal.js';

interface Address {
  host: string;
  port: number;
}

type Labels = Record<string, string | number>;

interface Metric {
  name: string;
  help: string;
  /** Its value for a loop; several, each with labels; or none, where there is nothing to measure. */
  values: (look: Look) => number | null | [Labels, number][];
}

/** All are gauges: what is counted may go up and down. */
const METRICS: Metric[] = [
  {
    name: 'doloop_ids',
    help: 'Ids in the loop: locked; bumped, or with priority since their lock ran out; neither of these.',
    values: ({ stats: { total, locked, bumped } }) => [
      [{ state: 'unlocked' }, total - locked - bumped],
      [{ state: 'locked' }, locked],
      [{ state: 'bumped' }, bumped],
    ],
  },
  {
    name: 'doloop_never_updated_ids',
    help: 'Ids that were never updated, whatever their state.',
    values: ({ stats }) => stats.neverUpdated,
  },
  {
    name: 'doloop_delayed_ids',
    help: 'Ids that were last updated longer ago than so many seconds; the never updated are not among them.',
    values: ({ stats }) => AGES.map(seconds => [{ seconds }, stats.delayed[seconds]!]),
  },
  {
    name: 'doloop_updated_ids_per_second',
    help: 'Ids updated a second, each counted once, over the last five minutes.',
    values: ({ rate }) => rate,
  },
  {
    name: 'doloop_newest_update_seconds',
    help: 'Time since the freshest id was updated; none before the first update.',
    values: look => (wasUpdated(look) ? look.stats.minUpdateTime : null),
  },
  {
    name: 'doloop_oldest_update_seconds',
    help: 'Time since the stalest id was updated, of those that ever were; none before the first update.',
    values: look => (wasUpdated(look) ? look.stats.maxUpdateTime : null),
  },
  {
    name: 'doloop_oldest_bump_seconds',
    help: 'The longest time for which an id has had priority; 0 where none has.',
    values: ({ stats }) => stats.maxBumpTime,
  },
  {
    name: 'doloop_look_seconds',
    help: 'How long it took to read these numbers.',
    values: ({ took }) => took,
  },
];

const wasUpdated = ({ stats: { total, neverUpdated } }: Look): boolean => total > neverUpdated;

export function addMetrics(program: Command): void {
  connecting(
    program
      .command('metrics')
      .description('write how loops are doing as text for Prometheus, once, or on demand; a loop costs what stats does')
      .argument('[table...]', 'user_loop or app.user_loop (default: all loops of the database)')
      .addOption(
        new Option('--listen <address>', 'serve /metrics there until a signal comes: [HOST:]PORT, HOST being 127.0.0.1')
          .argParser(address)
          .conflicts('json'),
      )
      .action(metrics)
      .addHelpText('after', examples('metrics user_loop', 'metrics --listen 9464')),
  );
}

function address(text: string): Address {
  const [, host, port] = /^(?:(.+):|:)?(\d{1,5})$/.exec(text) ?? [];
  if (port === undefined || Number(port) > 65_535) {
    throw new InvalidArgumentError('It is not an address, like 9464, 0.0.0.0:9464 or [::1]:9464.');
  }
  return { host: host?.replace(/^\[(.*)\]$/, '$1') ?? '127.0.0.1', port: Number(port) };
}

async function metrics(tables: string[], flags: Flags & { listen?: Address }): Promise<void> {
  tables.forEach(loopNamed);
  if (flags.listen) return serve(tables, flags, flags.listen);
  await connected(flags, async connection => {
    const looks = await lookAtAll(connection, tables);
    if (flags.json) echo(JSON.stringify(looks.map(lookAsJson)));
    else process.stdout.write(metricsText(looks));
    if (looks.length === 0) tell(`${connection.config.database} has no loops`);
  });
}

async function lookAtAll(connection: Connection, tables: string[]): Promise<Look[]> {
  const looks: Look[] = [];
  for (const table of tables.length > 0 ? tables : await loopsOf(connection)) {
    looks.push(await lookAt(connection, table));
  }
  return looks;
}

/** The loops of the connection's database that it may ask: EXECUTE alone shows them, and nothing is counted. */
async function loopsOf(connection: Connection): Promise<string[]> {
  if (connection.config.database === undefined) throw new Error(NO_DATABASE);
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT LEFT(routine_name, CHAR_LENGTH(routine_name) - CHAR_LENGTH('_stats')) AS loop_table
      FROM information_schema.routines
      WHERE routine_schema = DATABASE() AND RIGHT(routine_name, CHAR_LENGTH('_stats')) = '_stats'
        AND routine_comment LIKE 'doloop %'
      ORDER BY routine_name`,
  );
  return rows.map(({ loop_table }) => quoteName(loop_table as string));
}

/** The text format of Prometheus. */
const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

function metricsText(looks: Look[]): string {
  return METRICS.map(({ name, help, values }) => {
    const samples = looks.flatMap(look => {
      const value = values(look) ?? [];
      const labelled: [Labels, number][] = typeof value === 'number' ? [[{}, value]] : value;
      return labelled.map(([labels, n]) => `${name}{${labelsText({ table: shownLoop(look.name), ...labels })}} ${n}\n`);
    });
    return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${samples.join('')}`;
  }).join('');
}

function labelsText(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${String(value).replaceAll(/[\\"]/g, '\\$&').replaceAll('\n', '\\n')}"`)
    .join();
}

async function serve(tables: string[], flags: Flags, { host, port }: Address): Promise<void> {
  const { database } = understood(() => connectionSettings(flags));
  const needsNone = tables.length > 0 && tables.every(table => loopNamed(table).database !== undefined);
  if (database === undefined && !needsNone) throw new Error(NO_DATABASE);
  await untilSignalled(async signal => {
    const source = lasting(flags, signal);
    const complain = teller();
    const read = async (): Promise<{ status: number; text: string }> => {
      try {
        const text = metricsText(await source.use(connection => lookAtAll(connection, tables)));
        complain();
        return { status: 200, text };
      } catch (error) {
        const { message } = error as Error;
        if (!signal.aborted) complain(message);
        return { status: 503, text: `${message}\n` };
      }
    };
    // Who comes while a look is under way gets what it finds: there is never more than one.
    let reading: ReturnType<typeof read> | undefined;
    const server = createServer(async ({ url, method = '' }, response) => {
      let answer = { status: 404, text: 'GET /metrics\n' };
      if (url?.split('?')[0] === '/metrics' && /^(GET|HEAD)$/.test(method)) {
        reading ??= read().finally(() => {
          reading = undefined;
        });
        answer = await reading;
      }
      response.writeHead(answer.status, { 'content-type': CONTENT_TYPE }).end(answer.text);
    });
    await once(server.listen({ port, host }), 'listening');
    const { address, port: chosen } = server.address() as AddressInfo;
    tell(`http://${isIPv6(address) ? `[${address}]` : address}:${chosen}/metrics`);
    if (!signal.aborted) await once(signal, 'abort');
    server.close();
    server.closeAllConnections();
    await source.end();
  });
}
