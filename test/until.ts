import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

/** Waits for what is sure to come, however busy the machine is. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 3_000; i += 1) {
    if (await holds()) return;
    await sleep(20);
  }
  assert.fail(`never came: ${what}`);
}
