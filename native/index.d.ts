/** An open netlink socket of the addon; closed when collected, at the latest. */
export interface NativeSocket {
  readonly brand: unique symbol
}

/** A netlink socket that listens; it stops when collected, at the latest. It does not keep the process alive. */
export interface NativeListener {
  readonly listens: unique symbol
}

/** What came of one exchange. */
export interface NativeExchange {
  /** Every message that answers one of the requests, packed as the kernel packs them. */
  readonly replies: Buffer
  /** 0, or the errno of the step that failed; the answers received before it are in `replies`. */
  readonly errno: number
  /** The step that failed: `send`, `poll` or `receive`. */
  readonly step: string
  /** Messages that were handed to the kernel. */
  readonly sent: number
}

/** The addon's main half: a netlink socket. */
export interface NetlinkAddon {
  /** Opens and binds a socket. Throws an error with `code` "errno <n>". */
  open(protocol: number, receiveBytes: number): NativeSocket
  /**
   * Sends packed messages, whose sequence numbers ascend, and gathers the answers on a worker thread.
   * Sets NLM_F_ACK on the last message of each datagram. `requests` must not change meanwhile. It fails with
   * ETIMEDOUT when no answer comes for `timeoutMs`: all together may take longer.
   */
  exchange(socket: NativeSocket, requests: Buffer, timeoutMs: number): Promise<NativeExchange>
  /** Closes the socket, after the exchange under way if there is one. */
  close(socket: NativeSocket): void
}

/** The addon's other half: notifications. */
export interface MulticastAddon {
  /**
   * Joins multicast groups and calls `heard` on the event loop with packed messages, as they come, and an errno that
   * is 0 while all is well. With any other, such as ENOBUFS when messages came faster than they were taken, some are
   * lost. Throws an error with `code` "errno <n>".
   */
  listen(
    protocol: number,
    groups: readonly number[],
    receiveBytes: number,
    heard: (messages: Buffer, errno: number) => void,
  ): NativeListener
  /** Stops the listener; `heard` is still called with what has come before. Twice is harmless. */
  stop(listener: NativeListener): void
}
