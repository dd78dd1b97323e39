import { Bench, type Subject } from './contract/bench.ts'
import { concurrencyContract } from './contract/concurrency.ts'
import { fileContract } from './contract/files.ts'
import { packingContract } from './contract/packing.ts'
import { recordContract } from './contract/records.ts'
import { transactionContract } from './contract/transactions.ts'

/** The contract of sidecar/engine/engine.ts, on a real engine in a real directory: the same for every engine. */
export function engineContract(subject: Subject): void {
  const bench = new Bench(subject)
  recordContract(bench)
  transactionContract(bench)
  packingContract(bench)
  concurrencyContract(bench)
  fileContract(bench)
}
