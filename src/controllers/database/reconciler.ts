import { type Finding, findCondition, mergeConditions, messageOf } from '../../api/v1alpha1/conditions.ts'
import type { KvidxDatabaseStatus } from '../../api/v1alpha1/database-status.ts'
import { withDefaults } from '../../api/v1alpha1/defaults.ts'
import { type KvidxDatabase, kvidxDatabaseSchema } from '../../api/v1alpha1/kvidx-database.ts'
import { REASONS, type Reason } from '../../api/v1alpha1/reasons.ts'
import { validate } from '../../api/validate.ts'
import type { Problem } from '../../common/check.ts'
import type { Clock } from '../../common/clock.ts'
import { asKvidxError } from '../../common/errors.ts'
import { parseNano } from '../../common/quantity.ts'
import type { KubeApi } from '../../kube/api.ts'
import { isConflict, isNamespaceTerminating, isNotFound, undefinedIfMissing } from '../../kube/api-error.ts'
import type { ReconcileResult } from '../../kube/controller.ts'
import type { RuntimeLog } from '../../kube/log.ts'
import { controllerOf, type KubeObject, keyOf } from '../../kube/object.ts'
import type { EventRecorder } from '../../kube/recorder.ts'
import {
  CRON_JOBS,
  NAMESPACES,
  PERSISTENT_VOLUME_CLAIMS,
  PODS,
  STATEFUL_SETS,
  STORAGE_CLASSES,
  VOLUME_SNAPSHOTS,
} from '../../kube/resources.ts'
import { adoptedVolume } from './adoption.ts'
import { carryOut } from './apply.ts'
import { growthOf } from './auto-grow.ts'
import { type BackupStatusOutput, backupStatus, shippingOf } from './backup-status.ts'
import { type DatabaseCache, observe } from './cache.ts'
import { planCatalog, sharedClass } from './catalog.ts'
import { planClone } from './clone.ts'
import {
  blockedDelay,
  finalSnapshotName,
  hasFinalizer,
  leavesPodsAlone,
  planDeletion,
  snapshotRefusal,
  wantsFinalizer,
} from './deletion.ts'
import { engineFindings, readiness } from './health.ts'
import { planHibernation } from './hibernation.ts'
import { DATABASE_LABEL, FINALIZER, isDataClaim } from './names.ts'
import { type Blueprint, blueprintOf } from './objects/blueprint.ts'
import type { CronJob } from './objects/cron-jobs.ts'
import { knowsTemplate, type StatefulSet } from './objects/stateful-set.ts'
import type { Action, Claim, Observed, Pod } from './observed.ts'
import { isReady, planAll } from './plan.ts'
import type { Prober } from './prober.ts'
import { DATABASES } from './resource.ts'
import { type Rollout, rolloutOf } from './rollout.ts'
import { statusOf } from './status.ts'
import { StatusWriter } from './status-writer.ts'

/** Between two questions to a pod that serves, and to one that does not yet, ms. */
const PROBE_INTERVAL = 30_000
const PROBE_INTERVAL_NOT_READY = 3_000
/** Where there is no pod to ask, changes tell; this is for what no watch shows, ms. */
const IDLE_INTERVAL = 60_000
/** An object of somebody else is in the way, and only a look shows that it went, ms. */
const CONFLICT_INTERVAL = 10_000
const CLASS_LIFETIME = 300_000

export interface DatabaseReconcilerOptions {
  readonly api: KubeApi
  readonly cache: DatabaseCache
  readonly prober: Prober
  readonly recorder: EventRecorder
  readonly clock: Clock
  readonly log: RuntimeLog
  /** Image of databases that do not name one. */
  readonly defaultImage: string | undefined
}

/** Reconciles one KvidxDatabase: observe, plan, carry out, status last. */
export class DatabaseReconciler {
  readonly #options: DatabaseReconcilerOptions
  readonly #classes = new Map<string, { readonly expandable: boolean; readonly until: number }>()

  readonly #status: StatusWriter
  /** Which database of its name a key was last. */
  readonly #uids = new Map<string, string | undefined>()
  /** uid and generation of databases whose spec was found good. */
  readonly #valid = new Map<string, string>()

  constructor(options: DatabaseReconcilerOptions) {
    this.#options = options
    this.#status = new StatusWriter(options)
  }

  async reconcile(key: string, signal: AbortSignal): Promise<ReconcileResult | undefined> {
    const database = this.#options.cache.databases.store.get(key)
    // also where it was deleted and made anew before we looked: what is known of the old one, its lineage above all, is not true of the new one
    if (this.#uids.get(key) !== database?.metadata.uid) this.#forget(key)
    if (!database) return undefined
    this.#uids.set(key, database.metadata.uid)
    if (database.metadata.deletionTimestamp) return this.#delete(database, signal)
    try {
      return await this.#live(key, database, signal)
    } catch (error) {
      // the namespace goes and takes everything with it
      if (isNamespaceTerminating(error)) return undefined
      throw error
    }
  }

  #forget(key: string): void {
    this.#options.prober.forget(key)
    this.#status.forget(key)
    this.#valid.delete(key)
    this.#uids.delete(key)
  }

  async #live(
    key: string,
    database: KvidxDatabase & KubeObject,
    signal: AbortSignal,
  ): Promise<ReconcileResult | undefined> {
    const problem = this.#problemOf(key, database)
    if (problem) {
      await this.#sayStalled(
        database,
        stalled('InvalidSpec', { field: problem.field, problem: problem.message }),
        signal,
      )
      return undefined
    }
    if (wantsFinalizer(database)) await this.#keepFinalizer(database, true, signal)
    const spec = withDefaults(database.spec)
    const rollout = this.#rolloutOf(database)
    if (!rollout || !knowsTemplate(rollout.templateVersion)) {
      const refusal = rollout
        ? stalled('UnknownTemplateVersion', { version: rollout.templateVersion })
        : stalled('WaitingForImage', {})
      await this.#sayStalled(database, refusal, signal)
      return undefined
    }
    const { image, templateVersion } = rollout
    // decided once: a window that closes, or a process that ends, in the middle of it takes nothing back
    if (rollout.begins) {
      await this.#status.write(database, { ...database.status, image, templateVersion }, signal)
      return { requeueAfter: 500 }
    }
    const wanted = blueprintOf(database, spec, image, templateVersion)
    const observed = await this.#observe(key, database, wanted, signal)
    const cloning = planClone(wanted, observed)
    const catalog = planCatalog(cloning.blueprint, observed)
    const hibernation = planHibernation(cloning.blueprint, observed, this.#options.clock.now())
    // while it is suspended its pods stay, whatever else the spec asks for
    const blueprint = spec.suspend
      ? {
          ...hibernation.blueprint,
          replicas: Math.max(hibernation.blueprint.replicas, observed.statefulSet?.spec.replicas ?? 0),
        }
      : hibernation.blueprint
    // a mistake that only rendering finds (a quantity, say) is the spec's, too
    let plan: ReturnType<typeof planAll>
    try {
      plan = planAll(blueprint, observed, cloning.hold)
    } catch (error) {
      const failure = asKvidxError(error)
      if (failure.code === 'internal') throw error
      const field = String(failure.details.field ?? 'spec')
      await this.#sayStalled(database, stalled('InvalidSpec', { field, problem: failure.message }), signal)
      return undefined
    }
    const actions = spec.suspend
      ? []
      : [...cloning.actions, ...hibernation.actions, ...plan.actions, ...catalog.actions]
    // before the StatefulSet goes without its pods; if this fails it stays
    if (!wantsFinalizer(database)) await this.#keepFinalizer(database, leavesPodsAlone(observed, actions), signal)
    if (actions.length > 0) this.#options.log.info({ database: key, changes: actions.map(inWords) }, 'changing')
    const outcome = await carryOut(this.#options.api, actions, database.metadata.uid ?? '', signal)
    for (const action of outcome.done)
      if (action.kind === 'patch' && action.event)
        this.#tell(database, 'PatchVolume', action.event.reason, action.event.values)
    const backups = backupsOf(blueprint, observed, catalog.catalog, this.#options.clock.now())
    const findings = [
      ...readiness(
        blueprint,
        observed,
        [
          ...outcome.findings,
          ...(spec.suspend ? [] : [...cloning.findings, ...hibernation.findings, ...plan.findings]),
        ],
        actions.some(restarts),
      ),
      ...engineFindings(blueprint, observed),
      ...backups.findings,
    ]
    const later = await this.#status.write(
      database,
      withBackups(statusOf(blueprint, observed, findings, this.#options.clock.now(), rollout.available), backups.block),
      signal,
    )
    const adopted = later === undefined ? adoptedVolume(database, observed) : undefined
    if (adopted) this.#tell(database, 'AdoptVolume', 'VolumeAdopted', adopted)
    const shared = later === undefined ? sharedClass(observed, catalog.catalog) : undefined
    if (shared !== undefined) this.#tell(database, 'SeeStore', 'BackupNotIndependent', { class: shared })
    if (outcome.error !== undefined) throw outcome.error
    return { requeueAfter: Math.min(later ?? Number.POSITIVE_INFINITY, nextLook(blueprint, observed, findings)) }
  }

  /** The first mistake of the spec. A spec that was found good is judged again only when it changes: this is half of the time of a look that finds nothing to do. */
  #problemOf(key: string, { apiVersion, kind, metadata, spec }: KvidxDatabase & KubeObject): Problem | undefined {
    const version = `${metadata.uid}/${metadata.generation}`
    if (this.#valid.get(key) === version) return undefined
    const [problem] = validate(kvidxDatabaseSchema, { apiVersion, kind, metadata: { name: metadata.name }, spec })
    if (!problem) this.#valid.set(key, version)
    return problem
  }

  #tell(database: KubeObject, action: string, reason: Reason, values: Readonly<Record<string, string | number>>): void {
    const type = REASONS[reason].severity === 'Normal' ? 'Normal' : 'Warning'
    this.#options.recorder.record(database, { type, reason, action, note: messageOf(reason, values) })
  }

  #sayStalled(database: KvidxDatabase & KubeObject, finding: Finding, signal: AbortSignal): Promise<unknown> {
    const { cache, clock } = this.#options
    const serves = observe(cache, database).pods.some(isReady)
    return this.#status.write(database, withFindings(database, [finding], serves, clock.now()), signal)
  }

  async #observe(
    key: string,
    database: KvidxDatabase & KubeObject,
    blueprint: Blueprint,
    signal: AbortSignal,
  ): Promise<Observed> {
    const { cache, prober, clock } = this.#options
    const seen = observe(cache, database)
    const pod = seen.pods.find(candidate => candidate.metadata.name === blueprint.names.pod(0))
    let probe = prober.last(key)
    if (pod?.status?.podIP && !pod.metadata.deletionTimestamp) {
      const interval = isReady(pod) && probe?.status?.ready ? PROBE_INTERVAL : PROBE_INTERVAL_NOT_READY
      const due =
        !probe ||
        probe.pod !== pod.metadata.uid ||
        // either way: the wall clock may have been set back
        Math.abs(clock.now() - probe.time) >= interval - 500 ||
        isReady(pod) !== (probe.status?.ready ?? false)
      if (due) probe = await prober.ask(key, pod, signal)
    }
    const known: Observed = {
      ...seen,
      probe,
      expandable: undefined,
      namespaceTerminating: false,
      finalSnapshot: undefined,
    }
    const strayClaim = pod && seen.claims.length === 0 ? await this.#claimOf(blueprint, signal) : undefined
    return { ...known, strayClaim, expandable: await this.#expandable(claimToGrow(blueprint, known), signal) }
  }

  #claimOf({ namespace, names }: Blueprint, signal: AbortSignal): Promise<KubeObject | undefined> {
    const ref = { namespace, name: names.dataClaim(0) }
    return undefinedIfMissing(this.#options.api.get<KubeObject>(PERSISTENT_VOLUME_CLAIMS, ref, { signal }))
  }

  async #expandable(claim: Claim | undefined, signal: AbortSignal): Promise<boolean | undefined> {
    if (!claim) return undefined
    const name = claim.spec.storageClassName
    // a volume that no class provisioned; a claim that has none yet may get a class
    if (!name) return claim.status?.phase === 'Bound' ? false : undefined
    const now = this.#options.clock.monotonic()
    const known = this.#classes.get(name)
    if (known && known.until > now) return known.expandable
    const found = await undefinedIfMissing(
      this.#options.api.get<KubeObject & { allowVolumeExpansion?: boolean }>(STORAGE_CLASSES, { name }, { signal }),
    )
    const expandable = found?.allowVolumeExpansion === true
    this.#classes.set(name, { expandable, until: now + CLASS_LIFETIME })
    return expandable
  }

  async #delete(database: KvidxDatabase & KubeObject, signal: AbortSignal): Promise<ReconcileResult | undefined> {
    if (!hasFinalizer(database)) return undefined
    const { api, cache, clock } = this.#options
    const namespace = database.metadata.namespace ?? ''
    const space = await undefinedIfMissing(api.get<KubeObject>(NAMESPACES, { name: namespace }, { signal }))
    const snapshot =
      database.spec.storage.deletionPolicy === 'Snapshot'
        ? await undefinedIfMissing(
            api.get<KubeObject>(VOLUME_SNAPSHOTS, { namespace, name: finalSnapshotName(database) }, { signal }),
          )
        : undefined
    const observed: Observed = {
      ...observe(cache, database),
      probe: undefined,
      expandable: undefined,
      namespaceTerminating: space === undefined || space.metadata.deletionTimestamp !== undefined,
      finalSnapshot: snapshot,
    }
    const plan = planDeletion(observed)
    const outcome = await carryOut(api, plan.actions, database.metadata.uid ?? '', signal)
    if (outcome.error !== undefined) {
      const refusal = snapshotRefusal(plan.actions, outcome.error)
      const detail = refusal ?? (outcome.error as Error).message
      const blocked = { type: 'Stalled', status: 'True', reason: 'DeletionBlocked', values: { detail } } as const
      if (!isConflict(outcome.error))
        await this.#status.write(
          database,
          withFindings(database, [...plan.findings, blocked], observed.pods.some(isReady), clock.now()),
          signal,
        )
      if (refusal === undefined) throw outcome.error
      this.#options.log.info({ database: keyOf(database.metadata), reason: refusal }, 'deletion waits')
      return { requeueAfter: blockedDelay(database, clock.now()) }
    }
    if (plan.done && !(await this.#nothingLeft(database, observed, signal))) return { requeueAfter: 500 }
    if (plan.done) {
      try {
        await this.#keepFinalizer(database, false, signal)
      } catch (error) {
        if (!isNotFound(error)) throw error
      }
      return undefined
    }
    await this.#status.write(
      database,
      withFindings(database, plan.findings, observed.pods.some(isReady), clock.now()),
      signal,
    )
    return { requeueAfter: 2000 }
  }

  /** The cache may be behind: a claim made, or a pod left alone, a moment ago would stay for ever once our finalizer is gone. */
  async #nothingLeft(database: KvidxDatabase & KubeObject, observed: Observed, signal: AbortSignal): Promise<boolean> {
    if (observed.namespaceTerminating) return true
    const { api } = this.#options
    const { name, namespace = '' } = database.metadata
    const found = await undefinedIfMissing(api.get<StatefulSet>(STATEFUL_SETS, { namespace, name }, { signal }))
    const statefulSet = found && controllerOf(found)?.uid === database.metadata.uid ? found : undefined
    const labelSelector = `${DATABASE_LABEL}=${name}`
    if (!wantsFinalizer(database)) {
      const ofDatabase = `${labelSelector},app.kubernetes.io/component=database`
      const pods = await api.list<Pod>(PODS, { namespace, labelSelector: ofDatabase, signal })
      return planDeletion({ ...observed, statefulSet, pods: pods.items }).done
    }
    if (statefulSet) return false
    const claims = await api.list<KubeObject>(PERSISTENT_VOLUME_CLAIMS, { namespace, labelSelector, signal })
    return claims.items.every(
      ({ metadata }) => metadata.deletionTimestamp !== undefined || !isDataClaim(metadata.name, name),
    )
  }

  async #keepFinalizer(database: KvidxDatabase & KubeObject, wants: boolean, signal: AbortSignal): Promise<void> {
    if (wants === hasFinalizer(database)) return
    const { name, namespace, resourceVersion, finalizers: before = [] } = database.metadata
    const finalizers = wants ? [...before, FINALIZER] : before.filter(finalizer => finalizer !== FINALIZER)
    // with the version that was seen: another controller's finalizer must not be lost
    const body = { metadata: { finalizers, resourceVersion } }
    await this.#options.api.patch(DATABASES, { namespace, name }, body, { signal })
  }

  #rolloutOf(database: KvidxDatabase & KubeObject): Rollout | undefined {
    const { cache, defaultImage, clock } = this.#options
    return rolloutOf({ database, statefulSet: observe(cache, database).statefulSet, defaultImage, now: clock.now() })
  }
}

/** What is done at once is not worth a word in the conditions; what the pods must follow is. */
function restarts({ resource }: Action): boolean {
  return resource === STATEFUL_SETS || resource === PODS || resource === PERSISTENT_VOLUME_CLAIMS
}

/** The claim that is to grow: its class is asked about only then. */
function claimToGrow(blueprint: Blueprint, observed: Observed): Claim | undefined {
  const growth = growthOf(blueprint, observed)
  const size = parseNano(blueprint.spec.storage.size) ?? 0n
  return observed.claims.find(
    ({ metadata, spec }) =>
      (growth.kind === 'grow' && growth.claim === metadata.name) ||
      (parseNano(spec.resources.requests.storage) ?? 0n) < size,
  )
}

function inWords(action: Action): string {
  const name = 'object' in action ? action.object.metadata.name : action.name
  return `${action.kind} ${action.resource.kind} ${name}: ${action.why}`
}

/** When to look again even if nothing changes, ms. */
function nextLook(blueprint: Blueprint, observed: Observed, findings: readonly Finding[]): number {
  const pod = observed.pods.find(candidate => candidate.metadata.name === blueprint.names.pod(0))
  if (findings.some(finding => finding.reason === 'NameConflict')) return CONFLICT_INTERVAL
  if (!pod?.status?.podIP || pod.metadata.deletionTimestamp) return IDLE_INTERVAL
  // without its lineage a volume that gets lost would be taken for a new one
  const known = observed.probe?.status?.lineage ?? observed.database.status?.lineage
  return isReady(pod) && known ? PROBE_INTERVAL : PROBE_INTERVAL_NOT_READY
}

function stalled(reason: Reason, values: Readonly<Record<string, string | number>>): Finding {
  return { type: 'Stalled', status: 'True', reason, values }
}

/** The status as it was, with conditions alone changed: for what keeps a reconcile from looking further. */
function withFindings(
  database: KvidxDatabase,
  findings: readonly Finding[],
  serves: boolean,
  now: number,
): KvidxDatabaseStatus {
  const generation = database.metadata.generation ?? 0
  const stall = findings.find(finding => finding.type === 'Stalled')
  const known = findCondition(database.status?.conditions, 'Ready')
  const said = findings.some(finding => finding.type === 'Ready')
  // what runs goes on running, and is told of when it does not: nobody looks further until the stall is ended
  const ready: readonly Finding[] =
    !stall || said || (serves && known?.status === 'True')
      ? []
      : serves
        ? [
            {
              type: 'Ready',
              status: 'True',
              reason: 'Ready',
              values: { position: database.status?.data?.position ?? '0.0' },
            },
          ]
        : [{ ...stall, type: 'Ready', status: 'False' }]
  return {
    ...database.status,
    observedGeneration: generation,
    conditions: [...mergeConditions(database.status?.conditions ?? [], [...ready, ...findings], now, generation)],
  }
}

function backupsOf(
  blueprint: Blueprint,
  observed: Observed,
  catalog: string | undefined,
  now: number,
): BackupStatusOutput {
  return backupStatus({
    blueprint,
    records: observed.backups ?? [],
    cronJobs: (observed.owned.get(CRON_JOBS.plural) ?? []) as readonly CronJob[],
    shipping: shippingOf(observed.probe?.status?.backup),
    trimmed: observed.probe?.status?.trimmedConsumers,
    before: observed.database.status?.backup,
    created: observed.database.metadata.creationTimestamp,
    judged: findCondition(observed.database.status?.conditions, 'BackupVerified') !== undefined,
    catalog,
    now,
  })
}

function withBackups(
  { backup: _before, ...status }: KvidxDatabaseStatus,
  backup: KvidxDatabaseStatus['backup'],
): KvidxDatabaseStatus {
  return backup ? { ...status, backup } : status
}
