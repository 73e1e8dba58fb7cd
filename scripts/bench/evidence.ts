/** What happened, line by line, should anything go wrong: nobody sees the file until it is kept. */
import { randomBytes } from 'node:crypto';
import { closeSync, createReadStream, createWriteStream, openSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

/** Lines that are written at once. */
const LINES = 1_000;

export class Evidence {
  readonly #path = join(tmpdir(), `doloop-soak-${randomBytes(6).toString('hex')}.jsonl`);
  readonly #file = openSync(this.#path, 'wx+', 0o600);
  #lines: string[] = [];

  constructor() {
    unlinkSync(this.#path); // so that it is gone with this process, however that ends
  }

  /** @param at by the server's clock, s. */
  note(at: number, event: string, details: object): void {
    this.#lines.push(`${JSON.stringify({ at: Math.round(at * 1000) / 1000, event, ...details })}\n`);
    if (this.#lines.length >= LINES) this.#flush();
  }

  /** Gives it a name again; resolves to that. */
  async keep(): Promise<string> {
    this.#flush();
    const whole = createReadStream('', { fd: this.#file, start: 0, autoClose: false });
    await pipeline(whole, createWriteStream(this.#path, { mode: 0o600 }));
    return this.#path;
  }

  close(): void {
    closeSync(this.#file);
  }

  #flush(): void {
    writeSync(this.#file, this.#lines.join(''));
    this.#lines = [];
  }
}
