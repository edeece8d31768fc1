/** How much the kernel's connection tracking holds, and for how long (`conntrack` of KubeProxyConfiguration). */

/** 0 and false leave what the kernel has. */
export interface ConntrackSettings {
  /** Connections for each processor, and at least so many. */
  readonly maxPerCore: number
  readonly min: number
  readonly tcpEstablishedTimeoutSeconds: number
  readonly tcpCloseWaitTimeoutSeconds: number
  readonly tcpBeLiberal: boolean
  readonly udpTimeoutSeconds: number
  readonly udpStreamTimeoutSeconds: number
}
