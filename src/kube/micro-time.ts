/** Unix ms as Kubernetes' MicroTime: `2026-01-31T12:00:00.123000Z`. */
export function microTime(ms: number): string {
  return new Date(ms).toISOString().replace(/Z$/, '000Z')
}
