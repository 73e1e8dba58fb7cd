import { plot } from './plot.js';
import { plotSoak } from './plot-soak.js';
import type { Results } from './results.js';

/** The pictures of what was measured, in SVG, by their files' names. */
export function plotsOf(results: Results): Record<string, string> {
  const { kind, sections, points } = results;
  return {
    ...(sections.cells && { [`plot-${kind}.svg`]: plot(results) }),
    ...(points && { [`soak-${kind}.svg`]: plotSoak(results, points) }),
  };
}
