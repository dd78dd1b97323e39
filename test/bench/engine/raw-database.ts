/** What a binding must do; export and import are made of it. */
export interface RawDatabase {
  insert(keys: readonly bigint[], data: Uint8Array, batch: number): void
  overwrite(keys: readonly bigint[], data: Uint8Array, batch: number): void
  get(keys: readonly bigint[]): number
  scan(visit: (key: bigint, term: bigint, cmd: bigint, data: Uint8Array) => void): void
  close(): void
}
