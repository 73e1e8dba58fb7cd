import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

/** Far longer than anything takes, however busy the machine is. */
const PATIENCE_MS = 120_000;

/** Waits for what is sure to come. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + PATIENCE_MS; !(await holds()); await sleep(20)) {
    assert.ok(performance.now() < deadline, `never came: ${what}`);
  }
}
