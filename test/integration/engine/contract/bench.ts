import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach } from 'vitest'
import type { EngineKind, EngineReader, EngineTuning, EngineWriter } from '../../../../sidecar/engine/engine.ts'
import { openReader, openWriter } from '../../../../sidecar/engine/open.ts'
import type { Command } from '../reader-worker.ts'
import { record } from '../records.ts'

/** What the suite must know about an engine beside the contract itself. */
export interface Subject {
  readonly kind: EngineKind
  readonly tuning: EngineTuning
  /** Damages the closed database in `directory` where the engine's own check is bound to see it. */
  damage(directory: string): void
  /** A setting of another engine. */
  readonly foreign: Partial<EngineTuning>
  /** `compact` rewrites in place. */
  readonly compactsInPlace: boolean
}

/** What each test of the suite works on: a fresh database in a real directory, its writer and a reader. */
export class Bench {
  readonly subject: Subject
  readonly #workers: Worker[] = []
  #root = ''
  #writer: EngineWriter | undefined
  #reader: EngineReader | undefined

  constructor(subject: Subject) {
    this.subject = subject
    beforeEach(async () => {
      this.#root = mkdtempSync(join(tmpdir(), 'kvidx-engine-'))
      mkdirSync(this.directory)
      await this.open()
    })
    afterEach(async () => {
      for (const worker of this.#workers.splice(0)) await worker.terminate()
      try {
        this.close()
      } catch {
        // some tests close or break the database themselves
      }
      rmSync(this.root, { recursive: true, force: true })
    })
  }

  get root(): string {
    return this.#root
  }

  get directory(): string {
    return join(this.#root, 'db')
  }

  get writer(): EngineWriter {
    return this.#writer!
  }

  get reader(): EngineReader {
    return this.#reader!
  }

  async open(): Promise<void> {
    const { kind, tuning } = this.subject
    this.#writer = await openWriter({ kind, directory: this.directory, tuning })
    this.#reader = await openReader(this.#writer.share)
  }

  close(): void {
    this.reader.close()
    this.writer.close()
  }

  fill(keys: readonly bigint[]): void {
    this.writer.transact(transaction => {
      for (const key of keys) transaction.insert(record(key))
    })
  }

  /** A reader in a thread of its own; returns how to ask it. */
  async startWorker(): Promise<(command: Command) => Promise<unknown>> {
    const worker = new Worker(new URL('../reader-worker.ts', import.meta.url), { workerData: this.writer.share })
    this.#workers.push(worker)
    const receive = (): Promise<unknown> =>
      new Promise((resolve, reject) => {
        worker.once('error', reject)
        worker.once('message', (message: { ok?: unknown; error?: string }) => {
          worker.off('error', reject)
          if (message.error === undefined) resolve(message.ok)
          else reject(new Error(message.error))
        })
      })
    await receive()
    return command => {
      const answer = receive()
      worker.postMessage(command)
      return answer
    }
  }
}
