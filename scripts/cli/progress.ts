/** How far a long command is: as a bar on a terminal, else in a line now and then; on standard error either way. */
import cliProgress from 'cli-progress';
import { count, duration, isLively, paint } from './terminal.js';

export interface Progress {
  /** So many more are done. */
  step(n: number): void;
  /** It is over: nothing more is said of it. */
  stop(): void;
}

const LINE_EVERY_MS = 10_000;

/**
 * Shows progress.
 *
 * @param what whose it is, for the line: `app.user_loop`.
 * @param unit of what: `ids`.
 * @param total how many there are about; undefined if nobody knows.
 */
export function startProgress(what: string, unit: string, total?: number): Progress {
  const started = Date.now();
  let done = 0;
  const text = () => {
    const rate = (done * 1000) / Math.max(Date.now() - started, 1);
    const parts = [
      `${count(done)}${total === undefined ? '' : ` of about ${count(Math.max(total, done))}`} ${unit}`,
      `${count(Math.round(rate))}/s`,
    ];
    if (total !== undefined && total > done && rate > 0) parts.push(`${duration((total - done) / rate)} left`);
    return parts.join(', ');
  };
  if (isLively(process.stderr)) {
    const bar = new cliProgress.SingleBar({
      format: total === undefined ? '{text}' : `${paint(process.stderr, 'cyan', '{bar}')} {text}`,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      barsize: 16,
      hideCursor: true,
      clearOnComplete: true,
      gracefulExit: false,
      stream: process.stderr,
    });
    bar.start(Math.max(total ?? 1, 1), 0, { text: text() });
    return {
      step: n => {
        done += n;
        bar.update(Math.min(done, bar.getTotal()), { text: text() });
      },
      stop: () => bar.stop(),
    };
  }
  let said = started;
  return {
    step: n => {
      done += n;
      if (Date.now() - said < LINE_EVERY_MS) return;
      said = Date.now();
      process.stderr.write(`${what}: ${text()}\n`);
    },
    stop: () => {},
  };
}
