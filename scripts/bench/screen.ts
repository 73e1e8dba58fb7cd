/** What people see of the bench: headings, tables line by line, and under them a progress bar on a terminal. */
import cliProgress from 'cli-progress';
import { chalk } from 'zx';
import type { Column } from './section.js';

export class Screen {
  readonly #stream: NodeJS.WriteStream;
  readonly #bar: cliProgress.SingleBar;
  #begun = false;

  /** @param stream standard error, where standard output is another program's. */
  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    this.#bar = new cliProgress.SingleBar({
      format: `${chalk.cyan('{bar}')} {note}`,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      barsize: 24,
      hideCursor: true,
      clearOnComplete: true,
      gracefulExit: false,
      stream,
    });
  }

  say(line: string): void {
    this.endProgress();
    this.#stream.write(`${line}\n`);
  }

  /** Text of any length, in lines that a terminal has room for. */
  explain(text: string): void {
    this.say(text.replaceAll(/(.{1,80})(?: |$)/g, '$1\n').trimEnd());
  }

  heading(text: string): void {
    this.say(`\n${chalk.bold(text)}`);
  }

  /** A line of a table; what is marked as missed in red. */
  row(columns: readonly Column[], values: readonly string[]): void {
    const cells = columns.map(({ width, align }, i) => {
      const value = values[i]!;
      const padded = align === 'left' ? value.padEnd(width) : value.padStart(width);
      return value.endsWith('✗') ? chalk.red(padded) : padded;
    });
    this.say(cells.join(' ').trimEnd());
  }

  /** @param done from 0 to 1. */
  progress(done: number, note: string): void {
    if (!this.#begun) this.#bar.start(1, done, { note });
    this.#begun = true;
    this.#bar.update(done, { note });
  }

  endProgress(): void {
    if (this.#begun) this.#bar.stop();
    this.#begun = false;
  }
}
