export interface SidecarFlags {
  readonly config?: string
  readonly dataDir?: string
  readonly host?: string
  readonly dataPort?: string
  readonly opsHost?: string
  readonly opsPort?: string
  readonly socket?: string
  readonly tokenDir?: string
  readonly tlsDir?: string
  readonly engine?: string
  readonly name?: string
}
