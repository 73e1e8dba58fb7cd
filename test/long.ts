/** Whether the tests are run whole, by `npm run test:long`, rather than in the time that people wait for. */
const LONG = process.env.DOLOOP_TEST_LONG === '1';

/** How many rounds, seconds or rows a test takes: few with `npm test`, all with `npm run test:long`. */
export const quickOrLong = (quick: number, long: number): number => (LONG ? long : quick);
