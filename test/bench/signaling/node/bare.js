// A bare relay on ws: a map of sockets, JSON in and out, no checks. It speaks what bare.go specifies.
'use strict'
const http = require('http')
const { WebSocketServer } = require('ws')

const sockets = new Map() // id -> socket
const groups = new Map() // group -> Map of id -> record

function onMessage (socket, data) {
  const message = JSON.parse(data)
  if (message.to) {
    const target = sockets.get(message.to)
    if (target) target.send(JSON.stringify(message))
    return
  }
  switch (message.type) {
    case 'register':
      socket.id = message.id
      socket.record = message.record
      socket.groups = []
      sockets.set(socket.id, socket)
      socket.send('{"type":"ready"}')
      break
    case 'join': {
      let group = groups.get(message.group)
      if (!group) groups.set(message.group, group = new Map())
      socket.groups.push(message.group)
      socket.send(JSON.stringify({ type: 'result', id: message.id }))
      if (group.size) socket.send(JSON.stringify({ type: 'list', join: [...group.values()] }))
      group.set(socket.id, socket.record)
      break
    }
  }
}

function onClose (socket) {
  if (sockets.get(socket.id) === socket) sockets.delete(socket.id)
  for (const name of socket.groups || []) {
    const group = groups.get(name)
    group.delete(socket.id)
    if (!group.size) groups.delete(name)
  }
}

const server = http.createServer()
const relay = new WebSocketServer({ server, perMessageDeflate: false })
relay.on('connection', socket => {
  socket.on('message', data => onMessage(socket, data))
  socket.on('close', () => onClose(socket))
  socket.on('error', () => {})
})
server.listen(0, '127.0.0.1', 4096, () => console.log(server.address().port))
