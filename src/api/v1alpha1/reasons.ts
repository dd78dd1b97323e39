/**
 * One table of every reason that a condition or an event can have: what is the matter, what to do, how grave it is, and where the runbook stands. The
 * message of a condition is `message` with its values; `todo` is shown by `kvidx describe` and in the runbooks.
 */

interface ReasonEntry {
  /** With `{name}` for values. */
  readonly message: string
  /** Empty: nothing to do. */
  readonly todo: string
  /** Normal: all is well or goes on by itself. Warning: a person should look. Critical: the database is down or data is in danger. */
  readonly severity: 'Normal' | 'Warning' | 'Critical'
  /** Section of docs/runbooks.md, for what a person must do. */
  readonly runbook?: string
}

export const REASONS = {
  // Ready, Reconciling
  Ready: { message: 'The database serves reads and writes at position {position}', todo: '', severity: 'Normal' },
  Creating: { message: 'The objects of the database are being made: {detail}', todo: '', severity: 'Normal' },
  Starting: { message: 'Waiting for pod {pod}: {detail}', todo: '', severity: 'Normal' },
  Updating: { message: 'A change is being rolled out: {detail}', todo: '', severity: 'Normal' },
  Resizing: { message: 'Volume {claim} grows from {from} to {to}: {detail}', todo: '', severity: 'Normal' },
  Bootstrapping: { message: 'The first data is being loaded from {source}', todo: '', severity: 'Normal' },
  Restoring: {
    message: 'The restored data takes the place of the old, which goes to quarantine',
    todo: '',
    severity: 'Normal',
  },
  Recovering: {
    message: 'The damaged database is being mended (recovery.onCorruption: {policy})',
    todo: '',
    severity: 'Normal',
  },
  Deleting: { message: 'The database is being deleted: {detail}', todo: '', severity: 'Normal' },
  Suspended: {
    message: 'Reconciling is suspended; the database and its backups go on as they are',
    todo: 'Set spec.suspend: false to go on.',
    severity: 'Normal',
  },
  Hibernating: { message: 'The database goes to sleep: {detail}', todo: '', severity: 'Normal' },
  Hibernated: {
    message: 'The database sleeps; its volumes are kept',
    todo: 'Set spec.hibernate: false to wake it.',
    severity: 'Normal',
  },
  WaitingForImage: {
    message: 'No image is known for the pods',
    todo: 'Set spec.image, or start the operator with a default image.',
    severity: 'Warning',
  },
  // Stalled: nothing goes on without a person
  InvalidSpec: {
    message: '{field}: {problem}',
    todo: 'Correct the field; nothing was changed.',
    severity: 'Warning',
    runbook: 'invalid-spec',
  },
  NameConflict: {
    message: '{kind} {name} exists and does not belong to this database; it was not touched',
    todo: 'Rename or delete the object, or give the database another name.',
    severity: 'Critical',
    runbook: 'name-conflict',
  },
  LabelsMissing: {
    message: '{kind} {name} is there without the labels {labels}, by which the operator finds it',
    todo: 'Put them back: kubectl label --overwrite {kind} {name} {labels}',
    severity: 'Warning',
    runbook: 'labels-missing',
  },
  DataLost: {
    message: 'The volume holds no database, but there was one (lineage {lineage})',
    todo: 'Accept that the volume is new: spec.recovery.allowEmpty: {lineage}. To restore it at the same time, add spec.bootstrap.restore.source: { database: {name}, lineage: {lineage} }.',
    severity: 'Critical',
    runbook: 'lost-volume',
  },
  ForeignVolume: {
    message: 'The volume belongs to {owner} (lineage {lineage})',
    todo: 'Delete the claim if it is not wanted, or take it over: spec.bootstrap.adopt: {lineage}.',
    severity: 'Critical',
    runbook: 'foreign-volume',
  },
  VolumeNotEmpty: {
    message: 'bootstrap would fill a volume that has data already (lineage {lineage})',
    todo: 'Remove spec.bootstrap, or restore in place with a KvidxRestore.',
    severity: 'Warning',
    runbook: 'volume-not-empty',
  },
  BootstrapFailed: {
    message: 'The first data cannot be loaded from {source}: {error}',
    todo: 'Correct spec.bootstrap or the source; it is tried again.',
    severity: 'Critical',
    runbook: 'bootstrap-failed',
  },
  CannotExpand: {
    message: 'Storage class {class} does not allow expansion; {claim} stays at {size}',
    todo: 'Allow expansion in the class if its driver can do it, or restore a backup into a new database with another class.',
    severity: 'Warning',
    runbook: 'cannot-expand',
  },
  PodTemplateRefused: {
    message: 'podTemplate would break the database: {problem}',
    todo: 'Correct spec.podTemplate; the pods run with the last good template.',
    severity: 'Warning',
    runbook: 'pod-template',
  },
  UnknownTemplateVersion: {
    message: 'The pods were rendered by template version {version}, which this operator does not know',
    todo: 'Update the operator step by step; the pods were not touched.',
    severity: 'Warning',
    runbook: 'template-version',
  },
  DeletionBlocked: {
    message: 'Deletion waits: {detail}',
    todo: 'Make the snapshot possible, or set storage.deletionPolicy: Retain.',
    severity: 'Warning',
    runbook: 'deletion-blocked',
  },
  HibernateBlocked: {
    message: 'The last backup before hibernation failed: {error}',
    todo: 'Repair the destination, or go to sleep without it: annotate the database with kvidx.io/force-hibernate=true.',
    severity: 'Warning',
    runbook: 'hibernate-blocked',
  },
  ReconcileFailed: { message: 'Reconciling {phase} failed and is tried again: {error}', todo: '', severity: 'Warning' },
  // the pod
  PodPending: {
    message: 'Pod {pod} has not been scheduled: {detail}',
    todo: 'See kubectl describe pod {pod}.',
    severity: 'Warning',
    runbook: 'pod-pending',
  },
  PodFailing: {
    message: 'Container {container} of pod {pod} does not stay up: {detail}',
    todo: 'See kubectl logs {pod} -c {container} --previous.',
    severity: 'Critical',
    runbook: 'pod-failing',
  },
  ImagePullFailed: {
    message: 'Image {image} cannot be pulled: {detail}',
    todo: 'Correct spec.image or imagePullSecrets.',
    severity: 'Critical',
    runbook: 'pod-failing',
  },
  NodeLost: {
    message: 'Node {node} of pod {pod} does not answer since {since}; the pod is not moved, because it may still write',
    todo: 'When the node is surely off: kubectl taint node {node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute.',
    severity: 'Critical',
    runbook: 'node-lost',
  },
  Locked: {
    message: 'Another process has the volume open: {holder}',
    todo: 'It is waited for, never broken; end that process.',
    severity: 'Critical',
    runbook: 'locked',
  },
  NotReady: { message: 'The database does not serve: {detail}', todo: '', severity: 'Critical', runbook: 'not-ready' },
  // EngineHealthy
  Healthy: { message: 'All is well', todo: '', severity: 'Normal' },
  Degraded: {
    message: 'It serves, and not all is as it should be: {causes}',
    todo: '',
    severity: 'Warning',
    runbook: 'degraded',
  },
  Corrupt: {
    message: 'The database is damaged: {damage}',
    todo: 'Bring the newest state of the backups back, with a patch: spec.recovery.onCorruption: RestoreLatest; or keep what can be read (SQLite): Salvage. The damaged files go to quarantine.',
    severity: 'Critical',
    runbook: 'corrupted-database',
  },
  Salvaged: {
    message: 'A damaged database was salvaged: {kept} records kept, {lost} lost; the damaged files are in quarantine',
    todo: 'Compare with a backup; then kvidx quarantine remove {quarantine}.',
    severity: 'Warning',
    runbook: 'corrupted-database',
  },
  RestoredAfterDamage: {
    message:
      'A damaged database was replaced by the state {reached} of its backups; the damaged files are in quarantine',
    todo: 'When they are no longer needed: kvidx quarantine remove {quarantine}.',
    severity: 'Warning',
    runbook: 'corrupted-database',
  },
  ForeignWrites: {
    message:
      'Something else wrote to the files while the database was down; counters were rebuilt and epoch {epoch} began',
    todo: 'Find out what wrote; open the files with one program only.',
    severity: 'Warning',
    runbook: 'foreign-writes',
  },
  ClockJump: {
    message: 'The clock moved by {amount}; expired records are not removed for now',
    todo: 'Check the time of node {node}. It goes on when the clock was stable for 10 minutes.',
    severity: 'Warning',
    runbook: 'clock-jump',
  },
  AdoptedExpiries: {
    message: '{count} expired records of the adopted database will be removed from {time} on',
    todo: 'Raise spec.recovery.adoptGrace if they are still needed.',
    severity: 'Warning',
    runbook: 'adoption',
  },
  FiguresUnavailable: {
    message: 'The pod does not answer the operator: {error}',
    todo: '',
    severity: 'Warning',
    runbook: 'not-ready',
  },
  // StorageHealthy
  EnoughSpace: { message: '{used} of {size} in use', todo: '', severity: 'Normal' },
  AlmostFull: {
    message: 'Volume {claim}: {used} of {size} in use',
    todo: 'Raise spec.storage.size, or set storage.autoGrow.',
    severity: 'Warning',
    runbook: 'volume-full',
  },
  FullSoon: {
    message: 'Volume {claim} is full in {days} days',
    todo: 'Raise spec.storage.size, or set storage.autoGrow.',
    severity: 'Warning',
    runbook: 'volume-full',
  },
  NoSpace: {
    message: 'Volume {claim} is full: writes are refused, reads and removes go on',
    todo: 'Raise spec.storage.size (or storage.autoGrow.maxSize), or remove records.',
    severity: 'Critical',
    runbook: 'volume-full',
  },
  GrowthLimit: {
    message: 'Volume {claim} should grow ({why}), but has reached autoGrow.maxSize {size}',
    todo: 'Raise spec.storage.autoGrow.maxSize.',
    severity: 'Warning',
    runbook: 'volume-full',
  },
  VolumeMissing: {
    message: 'Claim {claim} is {phase}',
    todo: 'See kubectl describe pvc {claim}.',
    severity: 'Critical',
    runbook: 'lost-volume',
  },
  // BackupsHealthy
  BackupsCurrent: { message: 'The last backup {backup} ended at {time}', todo: '', severity: 'Normal' },
  NoBackups: {
    message: 'No backup is configured',
    todo: 'Add spec.backup.',
    severity: 'Warning',
    runbook: 'no-backup',
  },
  NoBackupYet: { message: 'No backup was due yet; the first one is at {time}', todo: '', severity: 'Normal' },
  BackupOverdue: {
    message: 'Schedule {schedule} is overdue: the last success was at {time}',
    todo: 'See kubectl get kvbak and the jobs of the schedule.',
    severity: 'Critical',
    runbook: 'backup-overdue',
  },
  BackupFailed: {
    message: 'Backup {backup} failed: {error}',
    todo: 'See kubectl describe kvbak {backup}.',
    severity: 'Critical',
    runbook: 'backup-failed',
  },
  StoreUnreachable: {
    message: 'The backup destination does not answer: {error}',
    todo: 'Check endpoint, credentials and network.',
    severity: 'Critical',
    runbook: 'store-unreachable',
  },
  BackupBehind: {
    message: 'The oldest change that is not shipped is {age} old ({bytes})',
    todo: 'Check the destination and backup.bandwidthLimit.',
    severity: 'Critical',
    runbook: 'backup-behind',
  },
  ChangeLogTrimmed: {
    message: 'Changes that {consumer} needed are gone from the log; its next backup is Full',
    todo: 'Raise spec.changeLog.maxSize.',
    severity: 'Warning',
    runbook: 'change-log-trimmed',
  },
  HistoryConflict: {
    message: 'The store holds another history under position {position}; nothing there was overwritten',
    todo: 'Find out which database wrote it; two must not share a lineage.',
    severity: 'Critical',
    runbook: 'history-conflict',
  },
  BackupsSuspended: {
    message: 'Scheduled backups are suspended',
    todo: 'Set backup.suspend: false.',
    severity: 'Warning',
    runbook: 'no-backup',
  },
  // BackupVerified
  Verified: { message: 'Backup {backup} was restored and compared at {time}', todo: '', severity: 'Normal' },
  NotVerified: {
    message: 'No backup has been verified yet',
    todo: 'Verification runs after each Full with verify.',
    severity: 'Normal',
  },
  VerificationFailed: {
    message: 'Backup {backup} is not what it should be: {error}',
    todo: 'Do not rely on it; make a new Full: kvidx backup create.',
    severity: 'Critical',
    runbook: 'verification-failed',
  },
  DrillFailed: {
    message: 'The restore drill of {time} failed: {error}',
    todo: 'See kvidx backup verify --all; make a new Full, and drill again: kvidx backup drill.',
    severity: 'Critical',
    runbook: 'drill-failed',
  },
  VerificationOverdue: {
    message: 'The last verified backup is {backup} of {time}',
    todo: 'See the jobs of the schedule.',
    severity: 'Warning',
    runbook: 'backup-overdue',
  },
  // events only
  VolumeGrows: { message: 'Volume {claim} grows by itself from {from} to {to}: {why}', todo: '', severity: 'Normal' },
  VolumeAdopted: { message: 'Volume {claim} of lineage {lineage} was taken up again', todo: '', severity: 'Normal' },
  UpdateAvailable: {
    message: 'Image {image} is newer than {current}',
    todo: 'Set spec.image to roll it out, or use updatePolicy Window.',
    severity: 'Normal',
  },
  BackupNotIndependent: {
    message: 'Backups lie on storage class {class}, like the data: one fault can take both',
    todo: 'Use another class or S3.',
    severity: 'Warning',
    runbook: 'backup-not-independent',
  },
  // KvidxBackup, KvidxRestore
  Pending: { message: 'Waiting to start: {detail}', todo: '', severity: 'Normal' },
  Running: { message: 'Under way: {detail}', todo: '', severity: 'Normal' },
  Completed: { message: 'Done: {detail}', todo: '', severity: 'Normal' },
  Failed: { message: 'Failed: {error}', todo: '', severity: 'Critical', runbook: 'backup-failed' },
  Superseded: {
    message: 'The database is in epoch {epoch}, not {atEpoch}: nothing was done',
    todo: 'Make a new KvidxRestore; kvidx restore fills in the epoch.',
    severity: 'Warning',
  },
  InsufficientSpace: {
    message: 'The restore does not fit on the volume: {error}',
    todo: 'Raise spec.storage.size.',
    severity: 'Critical',
    runbook: 'volume-full',
  },
  DeleteRefused: { message: 'Backup {needed} needs this one', todo: 'Delete that one first.', severity: 'Warning' },
} as const satisfies Readonly<Record<string, ReasonEntry>>

export type Reason = keyof typeof REASONS

/** What to do about a reason, with its values; empty when there is nothing. */
export function todoOf(reason: Reason, values: Readonly<Record<string, string | number>> = {}): string {
  return REASONS[reason].todo.replaceAll(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole))
}
