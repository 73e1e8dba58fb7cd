/**
 * Draws what `doloop stats` and `doloop watch` show on a terminal: stats.svg and watch.svg, for the guide beside them.
 * They look at a loop of two million ids on a private server, with workers at work. It takes some minutes, and `script`
 * of util-linux, which makes the terminal.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createPool } from 'mysql2/promise';
import { create, DoLoop } from '../src/index.js';
import { startServer } from './server.js';

/** Which screen of `watch` is drawn: one with a look for more than half of its plot's columns. */
const LOOKS = 40;
const WORKERS = 4;
/** How long an update takes about, ms. */
const UPDATE_MS = 200;

/**
 * Ids of every age: 3 % never updated, 18 % in the last hour, most in the last day, 1.5 % not for a week; and of these
 * some that fail, and are locked for up to a day. `r` and `q` are numbers from 0 to 1 for each id, as if at random.
 */
const FILL = `
  INSERT INTO app.user_loop (id, last_updated, lock_until, failures)
  WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
  SELECT id, UNIX_TIMESTAMP() - CASE WHEN r < 0.03 THEN NULL
                                     WHEN r < 0.21 THEN (r - 0.03) / 0.18 * 3600
                                     WHEN r < 0.90 THEN 3600 + (r - 0.21) / 0.69 * 82800
                                     WHEN r < 0.985 THEN 86400 + (r - 0.90) / 0.085 * 518400
                                     ELSE 604800 + (r - 0.985) / 0.015 * 1036800 END,
         IF(r > 0.998, UNIX_TIMESTAMP() + q * 86400, NULL), IF(r > 0.998, 10, 0)
    FROM (SELECT id, CRC32(id) / 4294967296 AS r, CRC32(id * 7) / 4294967296 AS q
            FROM (SELECT 1 + a.i + 1000 * b.i + 1000000 * c.i AS id FROM n a JOIN n b JOIN n c ON c.i < 2) ids) random
   WHERE q < 0.97`;

/** Updates ids, more of them at times, and bumps a few now and then, until the signal is given. */
async function keepBusy(loop: DoLoop, signal: AbortSignal): Promise<void> {
  const wave = (seconds: number) => Math.sin(Date.now() / 1000 / seconds);
  const update = () => sleep(UPDATE_MS * (1 + wave(31) / 4 + wave(7) / 8) * 2 * Math.random());
  const workers = Array.from({ length: WORKERS }, () => loop.work(update, { concurrency: 6, signal }));
  for (; !signal.aborted; await Promise.race([sleep(250), ...workers])) {
    const some = Array.from({ length: 4 }, () => 1 + Math.floor(Math.random() * 2_000_000));
    await loop.bump(some, { autoAdd: false });
  }
  await Promise.all(workers);
}

/** The codes with which each screen of `watch` begins and ends. */
const [HOME, CLEAR_BELOW] = ['\x1b[H', '\x1b[J'];

/**
 * Runs a command on a terminal of 80 columns.
 *
 * @param number which of its screens is wanted; it is ended after that. 0: all that it writes, if it draws none.
 * @returns that screen's lines, with their codes for colours.
 */
async function screenOf(command: string, url: string, number: number): Promise<string[]> {
  const program = fileURLToPath(new URL('doloop.js', import.meta.url));
  // Ends the command when our end of its input is closed, which is when this process ends at the latest.
  const guard = 'exec 3<&0; { cat <&3; kill $$; } &';
  const line = `stty cols 80 rows 24; ${guard} exec '${process.execPath}' '${program}' ${command} user_loop`;
  const env = { PATH: process.env.PATH, TERM: 'xterm', MYSQL_URL: url };
  const child = spawn('script', ['-qec', line, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] });
  let written = '';
  child.stdout.setEncoding('utf8').on('data', chunk => {
    written += chunk;
    if (number > 0 && written.split(HOME).length > number + 1) child.stdin.end();
  });
  const [code] = await once(child, 'close');
  if (code !== (number > 0 ? 143 : 0)) throw new Error(`${command} ended with ${code}: ${written}`);
  return written.split(HOME)[number]!.replace(CLEAR_BELOW, '').trimEnd().split('\r\n');
}

/** The size of letters; a character's width, a line's height, and what is around all of them, px. */
const [SIZE, WIDTH, HEIGHT, MARGIN] = [14, 8.4, 18, 18];
/** With a background of its own, for a picture doesn't know which page it is on. */
const STYLE = `
  rect { fill: #161b22; stroke: #3d444d }
  path { shape-rendering: crispEdges }
  text { font: ${SIZE}px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #d1d7e0 }
  .bold { font-weight: 700; fill: #f0f6fc } .dim { fill: #9198a1 } .green { fill: #3fb950 } .cyan { fill: #39c5cf }`;
/** By the end of a terminal's code; each that is not here ends them. */
const CLASSES: Record<string, string> = { '1m': 'bold', '2m': 'dim', '32m': 'green', '36m': 'cyan' };

/** Lines of a terminal as a picture in SVG. */
function picture(prompt: string, lines: string[]): string {
  const [width, height] = [80 * WIDTH + 2 * MARGIN, (lines.length + 1) * HEIGHT + 2 * MARGIN];
  return [
    '<!-- Written by `node dist/scripts/pictures.js` -->',
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${prompt}">`,
    `<style>${STYLE}\n</style>`,
    `<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8"/>`,
    ...[prompt, ...lines].flatMap((line, i) => drawn(line, MARGIN + i * HEIGHT)),
    '</svg>\n',
  ].join('\n');
}

/** A line whose upper edge is at `top`: all in its column, whatever the font, and blocks without the gaps of fonts. */
function drawn(line: string, top: number): string[] {
  let column = 0;
  return `0m${line}`.split('\x1b[').flatMap(piece => {
    const [, code, text] = /^(\d*[A-Za-z])(.*)$/.exec(piece)!;
    const style = CLASSES[code!] ? ` class="${CLASSES[code!]}"` : '';
    const shapes = [...text!.matchAll(/[▁-▏]+|[^▁-▏ ]+(?: [^▁-▏ ]+)*/g)].map(({ 0: part, index }) => {
      const x = MARGIN + (column + index) * WIDTH;
      if (/[▁-▏]/.test(part))
        return `<path${style} d="${[...part].map((c, i) => block(c, x + i * WIDTH, top)).join('')}"/>`;
      const shown = part.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
      return `<text${style} x="${n(x)}" y="${top + SIZE}" textLength="${n(part.length * WIDTH)}">${shown}</text>`;
    });
    column += text!.length;
    return shapes;
  });
}

/** A block character as a part of a path: ▁ to █ grow from below, ▏ to ▉ from the left. */
function block(character: string, x: number, top: number): string {
  const [high, wide] = ['▁▂▃▄▅▆▇█', '▏▎▍▌▋▊▉'].map(all => (all.indexOf(character) + 1) / 8 || 1) as [number, number];
  const [w, h] = [wide * WIDTH, high * HEIGHT];
  return `M${n(x)} ${n(top + HEIGHT - h)}h${n(w)}v${n(h)}h${n(-w)}z`;
}

const n = (x: number) => Math.round(x * 100) / 100;

const server = await startServer({ settings: ['--innodb-buffer-pool-size=512M'] });
const pool = createPool({ uri: server.url });
await pool.query('CREATE DATABASE app');
await create(pool, 'app.user_loop');
console.log('Filling a loop ...');
await pool.query(FILL);
const controller = new AbortController();
const busy = keepBusy(new DoLoop(pool, 'app.user_loop'), controller.signal);
for (const [command, number] of Object.entries({ watch: LOOKS, stats: 0 })) {
  console.log(`Drawing ${command}.svg ...`);
  const lines = await screenOf(command, new URL('app', server.url).href, number);
  const file = new URL(`../../scripts/${command}.svg`, import.meta.url);
  writeFileSync(file, picture(`$ npx doloop ${command} user_loop`, lines));
}
controller.abort();
await busy;
await pool.end();
await server.stop();
