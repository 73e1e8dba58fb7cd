import type { Results } from './results.js';
export function plot(_results: Results): string {
  return '';
}
