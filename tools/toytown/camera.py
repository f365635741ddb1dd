"""Pinhole cameras: world z up, pixel centres at +0.5, image y down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """Focal length in pixels, picture size, position, and rows right/down/forward."""

    focal: float
    width: int
    height: int
    position: np.ndarray
    axes: np.ndarray

    def matrix(self, shift=(0.0, 0.0)):
        """The (3, 4) matrix P with [u w, v w, w] = P @ [x, y, z, 1]."""
        k = np.array(
            [
                [self.focal, 0, self.width / 2 + shift[0]],
                [0, self.focal, self.height / 2 + shift[1]],
                [0, 0, 1.0],
            ]
        )
        return k @ np.hstack([self.axes, -(self.axes @ self.position)[:, None]])

    def project(self, points):
        """Pixels (n, 2) and depths (n,) of world points (n, 3)."""
        return project(self.matrix(), points)

    def rays(self, pixels):
        """Unit directions (n, 3) through pixel coordinates (n, 2)."""
        pixels = np.asarray(pixels, float)
        local = np.column_stack(
            [
                (pixels[:, 0] - self.width / 2) / self.focal,
                (pixels[:, 1] - self.height / 2) / self.focal,
                np.ones(len(pixels)),
            ]
        )
        world = local @ self.axes
        return world / np.linalg.norm(world, axis=1, keepdims=True)

    def to_world(self):
        """Mitsuba's 4 x 4 sensor transform (its x runs to the left, its y up)."""
        matrix = np.eye(4)
        matrix[:3, 0], matrix[:3, 1], matrix[:3, 2], matrix[:3, 3] = (
            -self.axes[0],
            -self.axes[1],
            self.axes[2],
            self.position,
        )
        return matrix


def project(matrix, points):
    """Apply a (3, 4) camera matrix to (n, 3) points: pixels (n, 2) and depths (n,)."""
    homogeneous = np.asarray(points, float) @ matrix[:, :3].T + matrix[:, 3]
    return homogeneous[:, :2] / homogeneous[:, 2:], homogeneous[:, 2]


def axes_from_angles(yaw, pitch, roll=0.0):
    """Rows right, down, forward; yaw 0 looks along +y, positive yaw to the right."""
    forward = np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.cos(yaw), -np.sin(yaw), 0.0])
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    return np.array([c * right + s * down, -s * right + c * down, forward])


def aim(position, target, pixel, focal, width, height, roll=0.0):
    """A camera at ``position`` that sees ``target`` at ``pixel`` (fixed-point search)."""
    position, target = np.asarray(position, float), np.asarray(target, float)
    delta = target - position
    yaw, pitch = np.arctan2(delta[0], delta[1]), np.arctan2(delta[2], np.hypot(delta[0], delta[1]))
    camera = None
    for _ in range(8):
        camera = Camera(focal, width, height, position, axes_from_angles(yaw, pitch, roll))
        ((u, v),) = camera.project(target[None])[0]
        yaw += np.arctan((u - pixel[0]) / focal)
        pitch -= np.arctan((v - pixel[1]) / focal)
    return Camera(focal, width, height, position, axes_from_angles(yaw, pitch, roll))
