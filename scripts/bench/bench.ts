/**
 * Measures loops against the same written by hand, and against the goals that are set for them. Nothing is left behind:
 * no process, no folder, no database; but for the results, where they are asked for.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { createConnection, createPool } from 'mysql2/promise';
import { connectionSettings } from '../connect.js';
import { end, fail, inTheEnd, isEnding, makeDatabase } from '../ending.js';
import { type Kind, openServer, type Server } from '../server.js';
import { plotsOf } from './plots.js';
import {
  machine,
  type Results,
  readOptions,
  resultsFile,
  SECTION_NAMES,
  SECTIONS,
  type SectionName,
} from './results.js';
import { Screen } from './screen.js';
import type { Bench, Section } from './section.js';
import type { SoakPoint } from './soak.js';
import { DATABASE } from './table.js';

const USAGE = `Usage: npm run bench -- [mariadb|mysql] [--quick] [--only SECTIONS] [--minutes N] [--json] [--out FOLDER]
  mariadb, mysql   the private server to start, where MYSQL_URL names none
  --quick          less of all, in under two minutes: for a look, not for the record
  --only SECTIONS  some of ${SECTION_NAMES.join(',')}
  --minutes N      how long the soak goes on; 10 unless told
  --json           the results on standard output, as one JSON value
  --out FOLDER     writes the results there, and the plots; sections that were not measured stay as they are`;

/** Large enough for all that is measured: the subject is locks and indexes, not the disk. */
const SETTINGS = ['--innodb-buffer-pool-size=2G'];

async function measureSection(
  name: SectionName,
  server: Server,
  { quick, minutes }: Options,
  screen: Screen,
  point: Bench['point'],
): Promise<unknown[]> {
  const section: Section<unknown> = SECTIONS[name];
  const { title, about, columns } = section;
  const closing: (() => unknown)[] = [];
  const bench: Bench = {
    async open() {
      const settings = connectionSettings({ url: server.url, database: DATABASE });
      const connection = await createConnection(settings);
      closing.push(() => connection.destroy());
      return connection;
    },
    openPool(connections) {
      const settings = connectionSettings({ url: server.url, database: DATABASE });
      const pool = createPool({ ...settings, connectionLimit: connections });
      closing.push(() => pool.end());
      return pool;
    },
    quick,
    minutes,
    pid: server.pid,
    point,
    progress: (done, note) => {
      if (!isEnding()) screen.progress(done, note);
    },
  };
  const rows: unknown[] = [];
  screen.heading(title);
  screen.explain(about);
  screen.row(
    columns,
    columns.map(column => column.title),
  );
  try {
    await section.measure(bench, row => {
      rows.push(row);
      if (!isEnding()) screen.row(columns, section.values(row));
    });
  } finally {
    screen.endProgress();
    await Promise.all(closing.map(close => close()));
  }
  return rows;
}

interface Options {
  kind: Kind | undefined;
  quick: boolean;
  only: SectionName[];
  minutes: number | undefined;
  json: boolean;
  out: string | undefined;
}

async function bench(options: Options): Promise<void> {
  const { kind, quick, only, json, out } = options;
  const begun = Date.now();
  const screen = new Screen(json ? process.stderr : process.stdout);
  inTheEnd(() => screen.endProgress());
  const server = await openServer({ ...(kind && { kind }), settings: SETTINGS });
  inTheEnd(server.stop);
  if (kind && server.kind !== kind) throw new Error(`MYSQL_URL names a ${server.kind} server, not ${kind}`);
  const connection = await makeDatabase(server.url, DATABASE);
  const results: Results = {
    kind: server.kind,
    version: server.version,
    options: await readOptions(connection),
    machine: machine(),
    measured: new Date().toISOString().slice(0, 10),
    quick,
    sections: {},
  };
  screen.heading(`${server.kind} ${server.version}`);
  screen.say(results.machine);
  for (const [name, value] of Object.entries(results.options)) screen.say(`${name} = ${value}`);
  const points: SoakPoint[] = [];
  for (const name of only)
    results.sections[name] = await measureSection(name, server, options, screen, point => points.push(point));
  if (points.length > 0) results.points = points;
  if (isEnding()) return;
  await end();
  if (out !== undefined) write(resolve(process.env.INIT_CWD ?? '', out), results);
  if (json) console.log(JSON.stringify(results));
  screen.say(`\nDone in ${Math.round((Date.now() - begun) / 1000)} s.`);
}

/** Beside what was measured before: sections that were not measured anew stay. */
function write(folder: string, results: Results): void {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, resultsFile(results.kind));
  const before = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Results) : undefined;
  const all: Results = { ...before, ...results, sections: { ...before?.sections, ...results.sections } };
  writeFileSync(file, `${JSON.stringify(all, null, 2)}\n`);
  for (const [name, svg] of Object.entries(plotsOf(all))) writeFileSync(join(folder, name), svg);
}

function readOptionsOf(args: string[]): Options | undefined {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      minutes: { type: 'string' },
      json: { type: 'boolean', default: false },
      out: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help) return undefined;
  const [kind, ...more] = positionals;
  const only = values.only?.split(',') ?? SECTION_NAMES;
  const unknown = [...more, ...only.filter(name => !SECTION_NAMES.includes(name as SectionName))];
  if (kind && kind !== 'mariadb' && kind !== 'mysql') unknown.push(kind);
  if (unknown.length > 0) throw new TypeError(`${unknown.join(', ')}: what is that?`);
  const minutes = values.minutes === undefined ? undefined : Number(values.minutes);
  if (minutes !== undefined && !(minutes > 0 && minutes <= 1440))
    throw new TypeError(`--minutes: ${values.minutes} is not a number of minutes above 0, of a day at most`);
  return {
    kind: kind as Kind | undefined,
    only: only as SectionName[],
    minutes,
    out: values.out,
    quick: values.quick,
    json: values.json,
  };
}

let options: Options | undefined;
try {
  options = readOptionsOf(process.argv.slice(2));
  if (!options) console.log(USAGE);
} catch (error) {
  console.error(`${(error as Error).message}\n${USAGE}`);
  process.exitCode = 2;
}
if (options) {
  try {
    await bench(options);
  } catch (error) {
    if (!isEnding()) fail(error);
  }
  await end();
}
