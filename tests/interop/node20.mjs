// libp2p 3 asks for Node.js 22; on 20 this is all that is missing.

Promise.withResolvers ??= function () {
  const made = {}
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}
